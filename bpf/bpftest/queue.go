package bpftest

import (
	"syscall"
	"time"
)

// Filters of kevent(2).
const (
	EVFILT_READ  = -1
	EVFILT_WRITE = -2
)

// An Edge is one event that kevent(2) returned.
type Edge struct {
	Filter int16
	Data   int // bytes that can be read, or the largest packet that can be written
}

// A Queue is a kqueue(2) that watches one descriptor, besides the kqueue of [Descriptor.Wait]. Only
// one goroutine at a time may call [Queue.Wait].
type Queue struct {
	d       *Descriptor
	filters []int16
	wake    chan struct{} // capacity 1

	active map[int16]bool // guarded by Descriptor.mu
}

// Watch makes a kqueue and adds filters to it, with EV_ADD and EV_CLEAR (bpfkqfilter).
//
// Errors:
//   - EPERM: a filter is not EVFILT_READ. With [Features].WriteFilter, EVFILT_WRITE is allowed too.
func (d *Descriptor) Watch(filters ...int16) (*Queue, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return nil, err
	}
	q := &Queue{d: d, filters: filters, wake: make(chan struct{}, 1), active: make(map[int16]bool)}
	for _, f := range filters {
		if f != EVFILT_READ && !(f == EVFILT_WRITE && d.k.features.WriteFilter) {
			return nil, syscall.EPERM
		}
		d.pid = d.k.pid
		q.look(f)
	}
	d.queues = append(d.queues, q)
	return q, nil
}

// AddFilter adds one filter to a new kqueue, as [Descriptor.Watch] does, and closes the kqueue.
func (d *Descriptor) AddFilter(filter int16) error {
	q, err := d.Watch(filter)
	if err != nil {
		return err
	}
	return q.Close()
}

// look queues the event if the filter is ready now. Descriptor.mu is held.
func (q *Queue) look(filter int16) {
	if _, ready := q.d.evaluateFilter(filter); ready {
		q.active[filter] = true
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// evaluateFilter is filt_bpfread or filt_bpfwrite.
func (d *Descriptor) evaluateFilter(filter int16) (data int, ready bool) {
	if filter == EVFILT_READ {
		return d.evaluate()
	}
	if d.tap == nil {
		return 0, false
	}
	if d.tap.iface.noIndex {
		return 0, true
	}
	return int(d.tap.iface.mtu.Load()), true
}

// Wait returns the edges since the last call, or waits for one, as kevent(2) does without changes.
// A negative timeout never passes. Like [Descriptor.Wait] it drops an edge that is not true any
// more.
func (q *Queue) Wait(timeout time.Duration) ([]Edge, error) {
	var expired <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	for last := timeout == 0; ; {
		edges, err := q.take()
		if err != nil || len(edges) > 0 || last {
			return edges, err
		}
		select {
		case <-q.wake:
		case <-expired:
			last = true
		}
	}
}

func (q *Queue) take() (edges []Edge, err error) {
	q.d.mu.Lock()
	defer q.d.mu.Unlock()
	if err := q.d.usable(); err != nil {
		return nil, err
	}
	for _, f := range q.filters {
		if q.active[f] {
			q.active[f] = false
			if data, ready := q.d.evaluateFilter(f); ready {
				edges = append(edges, Edge{f, data})
			}
		}
	}
	return edges, nil
}

// Close closes the queue.
func (q *Queue) Close() error {
	q.d.mu.Lock()
	defer q.d.mu.Unlock()
	for i, o := range q.d.queues {
		if o == q {
			q.d.queues = append(q.d.queues[:i], q.d.queues[i+1:]...)
			return nil
		}
	}
	return syscall.EBADF
}
