package bpftest

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A flight is a packet between a descriptor's filter, which it has passed, and its buffer. Another
// processor of a real machine may need any time from one to the other.
type flight struct {
	sighting
	snaplen uint32
}

// inFlight has the arguments of [WithInFlight].
type inFlight struct {
	most  int
	delay time.Duration
	seed  uint64
}

// flights are a descriptor's packets in flight. They are guarded by Descriptor.mu.
type flights struct {
	begun  []*flight // by BeginInject, in no order
	queued []flight  // by WithInFlight, oldest first
	rng    *rand.Rand
	timer  *time.Timer // stores the queued packets; nil while it does not run
}

// WithInFlight keeps up to n packets at a time in flight for each descriptor. They have passed its
// direction and filter. The model stores them a little later, in order, after delay at the latest.
// seed decides how many and when.
//
// If a request of the real kernel waits for packets in flight, the model stores them first (see
// [Features].FilterInFlight). BIOCFLUSH and BIOCSDIRECTION wait for none, in any release. A request
// that does not wait comes between them: the model stores some before and the others after it.
func WithInFlight(n int, delay time.Duration, seed uint64) Option {
	return func(k *Kernel) { k.inFlight = &inFlight{n, delay, seed} }
}

// BeginInject does the first half of [Interface.Inject]: every listener's direction and filter look
// at the packet. finish does the other half: the listeners that it passed store it. The packet is
// in flight between the two, as on a machine with several processors.
//
// Where the real kernel would make a request wait for the packet ([Features].FilterInFlight), the
// request stores it, and finish finds nothing left to do.
func (i *Interface) BeginInject(p Packet) (finish func()) {
	if i.k.panicked.Load() != nil || !i.up.Load() {
		return func() {}
	}
	p.Data = bytes.Clone(p.Data)
	type begun struct {
		d *Descriptor
		f *flight
	}
	var all []begun
	if t := i.tap(p.DLT); t != nil {
		s := newSighting(i.k, &p)
		for _, d := range *t.readers.Load() {
			d.mu.Lock()
			if snaplen := d.look(t, &s); snaplen != 0 {
				f := &flight{s, snaplen}
				d.flights.begun = append(d.flights.begun, f)
				all = append(all, begun{d, f})
			}
			d.mu.Unlock()
		}
	}
	return sync.OnceFunc(func() {
		for _, b := range all {
			b.d.mu.Lock()
			b.d.land(b.f)
			b.d.mu.Unlock()
		}
		if p.Out {
			i.forward(p.Data)
		}
	})
}

// land stores a packet that BeginInject has begun, unless it was stored before. d.mu is held.
func (d *Descriptor) land(f *flight) {
	if at := slices.Index(d.flights.begun, f); at >= 0 {
		d.flights.begun = slices.Delete(d.flights.begun, at, at+1)
		d.keep(&f.sighting, f.snaplen)
	}
}

// depart stores a packet that has passed the filter now or, with WithInFlight, later. d.mu is held.
func (d *Descriptor) depart(s *sighting, snaplen uint32) {
	in := d.k.inFlight
	if in == nil {
		d.keep(s, snaplen)
		return
	}
	f := flight{*s, snaplen}
	f.data = bytes.Clone(s.data)
	q := &d.flights
	q.queued = append(q.queued, f)
	d.landQueued(len(q.queued) - q.rng.IntN(in.most+1))
	if len(q.queued) > 0 && q.timer == nil {
		q.timer = time.AfterFunc(time.Duration(q.rng.Int64N(int64(in.delay)+1)), func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			q.timer = nil
			d.landQueued(len(q.queued))
		})
	}
}

// landQueued stores the n oldest packets in flight. d.mu is held.
func (d *Descriptor) landQueued(n int) {
	q := &d.flights
	for ; n > 0; n-- {
		f := q.queued[0]
		q.queued = q.queued[1:]
		d.keep(&f.sighting, f.snaplen)
	}
}

// overtake decides for packets in flight whether a request comes before or after them. If the
// kernel excludes them, the request waits until all of them are stored. Otherwise it comes at any
// moment. d.mu is held.
func (d *Descriptor) overtake(excluded bool) {
	q := &d.flights
	if !excluded {
		if n := len(q.queued); n > 0 {
			d.landQueued(q.rng.IntN(n + 1))
		}
		return
	}
	for len(q.begun) > 0 {
		d.land(q.begun[0])
	}
	d.landQueued(len(q.queued))
}

// forget drops the packets in flight of a descriptor that is closed. d.mu is held.
func (q *flights) forget() {
	q.begun, q.queued = nil, nil
}
