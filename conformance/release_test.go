package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// releases are the models that the table runs on. A subtest is named "model" on 12.1, else after
// the release.
var releases = []struct {
	name string
	f    bpftest.Features
}{
	{model, bpftest.FreeBSD12()},
	{model + "-14", bpftest.FreeBSD14()},
	{model + "-16", bpftest.FreeBSD16()},
}

// newModel is a model of a release as this process would see it.
func newModel(f bpftest.Features, opts ...bpftest.Option) lab.World {
	opts = append(opts, bpftest.WithFeatures(f))
	if runtime.GOARCH == "386" {
		opts = append(opts, bpftest.WithCompat32())
	}
	return lab.Model(opts...)
}

// modelOf is a model of the kernel that the process runs on.
func modelOf(k lab.World) (lab.World, error) {
	hz, err := k.Sysctl("kern.hz")
	if err != nil {
		return nil, err
	}
	return newModel(featuresOf(k), bpftest.WithHZ(hz)), nil
}

// featuresOf returns the features that a world has of releases after 12.1. The running kernel was
// probed.
func featuresOf(w lab.World) bpftest.Features {
	if m, ok := w.(interface{ Features() bpftest.Features }); ok {
		return m.Features()
	}
	f, err := probed()
	if err != nil {
		panic(err)
	}
	return f
}

// by chooses between the expectations of kernels with a feature and without.
func by[T any](has bool, with, without T) T {
	if has {
		return with
	}
	return without
}

// probed probes the running kernel, once.
var probed = sync.OnceValues(func() (bpftest.Features, error) {
	k, why := lab.Kernel()
	if k == nil {
		return bpftest.Features{}, errors.New(why)
	}
	version, err := k.Sysctl("kern.osreldate")
	if err != nil {
		return bpftest.Features{}, err
	}
	f, err := probe(k)
	f.FilterInFlight = version >= 1300000 // whether packets are in flight is up to the moment
	fmt.Printf("__FreeBSD_version %d, probed:%s\n", version, describe(f))
	return f, err
})

// describe lists the features that are set.
func describe(f bpftest.Features) string {
	var set strings.Builder
	for name, on := range eachFeature(f) {
		if on {
			set.WriteString(" " + name)
		}
	}
	if set.Len() == 0 {
		return " nothing that is later than 12.1"
	}
	return set.String()
}

func eachFeature(f bpftest.Features) map[string]bool {
	v, m := reflect.ValueOf(f), map[string]bool{}
	for i := range v.NumField() {
		m[v.Type().Field(i).Name] = v.Field(i).Bool()
	}
	return m
}

// probe finds the features of a kernel by trying them. It leaves out those that no call shows.
func probe(w lab.World) (f bpftest.Features, err error) {
	probes := []struct {
		set *bool
		has func(p *prober) bool
	}{
		{&f.WriteFilter, probeWriteFilter},
		{&f.SetVLANPCP, func(p *prober) bool { return p.accepted(zbuf.BIOCSETVLANPCP, ptr(uint32(3))) }},
		{&f.IfList, func(p *prober) bool { return p.accepted(zbuf.BIOCGETIFLIST, new(zbuf.IfList)) }},
		{&f.TruncateTimeout, probeTimeout},
		{&f.OwnerCleared, probeOwner},
		{&f.StickyFlags, probeSticky},
		{&f.TapWrite, func(p *prober) bool { _, err := p.open().Write(nil); return err == nil }},
		{&f.LongWrite, probeLongWrite},
		{&f.StalePromisc, probePromisc},
		{&f.VnetDetach, probeVnet},
		{&f.PadZero, probePadding},
		{&f.AttachWakes, probeAttach},
	}
	for _, c := range probes {
		p := &prober{w: w}
		if *c.set, err = p.run(c.has); err != nil {
			return f, err
		}
	}
	return f, nil
}

// A prober makes what a probe needs, and takes it away again. What must work and does not ends the
// probe.
type prober struct {
	w    lab.World
	undo []func() error
}

// failed is the value of must's panic.
type failed struct{ error }

func (p *prober) must(err error) {
	if err != nil {
		panic(failed{err})
	}
}

// run makes a probe.
func (p *prober) run(has func(p *prober) bool) (yes bool, err error) {
	defer func() {
		if why, ok := recover().(failed); ok {
			err = fmt.Errorf("probe: %w", why.error)
		}
		for i := len(p.undo) - 1; i >= 0; i-- {
			err = errors.Join(err, p.undo[i]())
		}
	}()
	return has(p), nil
}

func (p *prober) open() lab.Desc {
	d, err := p.w.OpenMode(syscall.O_RDWR | syscall.O_NONBLOCK)
	p.must(err)
	p.undo = append(p.undo, d.Close)
	return d
}

func (p *prober) wire() (pair *lab.Pair, destroy func() error) {
	pair, err := p.w.NewPair()
	p.must(err)
	destroy = sync.OnceValue(func() error {
		pair.Close()
		return p.w.Destroy(pair.A)
	})
	p.undo = append(p.undo, destroy)
	return pair, destroy
}

func (p *prober) do(d lab.Desc, req zbuf.Request, arg any) { p.must(d.Ioctl(req, arg)) }

func (p *prober) accepted(req zbuf.Request, arg any) bool {
	err := p.open().Ioctl(req, arg)
	if err != nil && err != syscall.EINVAL {
		p.must(err)
	}
	return err == nil
}

func ptr[T any](v T) *T { return &v }

func probeWriteFilter(p *prober) bool {
	q, err := p.open().Watch(lab.FilterWrite)
	if err == nil {
		p.must(q.Close())
	} else if err != syscall.EPERM {
		p.must(err)
	}
	return err == nil
}

func probeTimeout(p *prober) bool {
	d, v := p.open(), new(zbuf.Timeval)
	p.do(d, zbuf.BIOCSRTIMEOUT, timeval(time.Microsecond))
	p.do(d, zbuf.BIOCGRTIMEOUT, v)
	return *v == zbuf.Timeval{}
}

func probeOwner(p *prober) bool {
	d, own := p.open(), int32(os.Getpid())
	p.do(d, zbuf.FIOSETOWN, &own)
	if err := d.Ioctl(zbuf.FIOSETOWN, ptr(int32(99999))); err != syscall.ESRCH {
		p.must(fmt.Errorf("FIOSETOWN of no process: %w", err))
	}
	p.do(d, zbuf.FIOGETOWN, &own)
	return own == 0
}

func probeSticky(p *prober) bool {
	d, v := p.open(), uint32(1)
	p.do(d, zbuf.BIOCSHDRCMPLT, &v)
	v = 0
	p.do(d, zbuf.BIOCSHDRCMPLT, &v)
	p.do(d, zbuf.BIOCGHDRCMPLT, &v)
	return v != 0
}

func probeLongWrite(p *prober) bool {
	pair, _ := p.wire()
	for _, ifname := range []string{pair.A, pair.B} {
		p.must(p.w.SetMTU(ifname, 2*page))
	}
	d := p.open()
	p.do(d, zbuf.BIOCSETIF, ifreq(pair.B))
	_, err := d.Write(lab.Frame(page+100, 1))
	if err != nil && err != syscall.EIO {
		p.must(err)
	}
	return err == nil
}

// probePromisc must leave the second interface by its going, not by closing: the kernel may panic.
func probePromisc(p *prober) bool {
	first, destroyFirst := p.wire()
	second, destroySecond := p.wire()
	d := p.open()
	p.do(d, zbuf.BIOCSETIF, ifreq(first.A))
	p.do(d, zbuf.BIOCPROMISC, nil)
	p.must(destroyFirst())
	p.do(d, zbuf.BIOCSETIF, ifreq(second.A))
	list, err := p.w.Listeners()
	p.must(err)
	p.must(destroySecond())
	for _, x := range list {
		if x.Promisc != 0 && nameOf(x) == second.A {
			return true
		}
	}
	return false
}

func probeVnet(p *prober) bool {
	pair, _ := p.wire()
	d := p.open()
	p.do(d, zbuf.BIOCSETIF, ifreq(pair.A))
	back, err := p.w.Leave(pair.A)
	p.must(err)
	gone := d.Detached()
	p.must(back())
	return gone
}

// zerocopy is a descriptor with a page lent for each buffer.
func (p *prober) zerocopy() lab.Desc {
	d := p.open()
	p.do(d, zbuf.BIOCSETBUFMODE, ptr[uint32](zmode))
	a, err := d.Map(page)
	p.must(err)
	b, err := d.Map(page)
	p.must(err)
	p.do(d, zbuf.BIOCSETZBUF, &zbuf.Zbuf{Bufa: &a[0], Bufb: &b[0], Buflen: page})
	return d
}

func probePadding(p *prober) bool {
	if runtime.GOARCH == "386" {
		return false // lends nothing, so appends are not counted, and padding is the kernel's memory
	}
	pair, _ := p.wire()
	d := p.zerocopy()
	p.do(d, zbuf.BIOCSETIF, ifreq(pair.A))
	p.must(pair.Deliver(pair.A, lab.Frame(64, 1), lab.Frame(64, 2)))
	list, err := p.w.Listeners()
	p.must(err)
	for _, x := range list {
		if x.Bufmode == int32(zmode) && nameOf(x) == pair.A {
			return x.Zcopy == 5
		}
	}
	p.must(errors.New("the descriptor is not listed"))
	return false
}

func nameOf(x zbuf.XbpfD) string { return string(bytes.TrimRight(x.Ifname[:], "\x00")) }

// probeAttach looks whether the read timeout starts, which a wakeup does.
func probeAttach(p *prober) bool {
	first, _ := p.wire()
	second, _ := p.wire()
	d := p.open()
	p.do(d, zbuf.BIOCSRTIMEOUT, timeval(20*time.Millisecond))
	p.do(d, zbuf.BIOCSETIF, ifreq(first.A))
	p.do(d, zbuf.BIOCSETIF, ifreq(second.A))
	p.must(second.Deliver(second.A, lab.Frame(64, 1)))
	p.must(outlast(p.w, 20*time.Millisecond))
	// One long wait could end together with the timeout when the machine stalls.
	for range quiet / tick {
		ev, err := d.Wait(false, tick)
		p.must(err)
		if ev.Readable {
			return true
		}
	}
	return false
}

// TestProbe shows that probing a model finds what it is made of.
func TestProbe(t *testing.T) {
	only64(t)
	for _, r := range releases {
		got, err := probe(newModel(r.f))
		require.NoError(t, err, r.name)
		want := r.f
		want.FilterInFlight = false
		require.Equal(t, want, got, "%s: probed%s, is%s", r.name, describe(got), describe(want))
	}
	for name := range eachFeature(bpftest.Features{}) {
		if name == "FilterInFlight" {
			continue
		}
		f := bpftest.Features{}
		reflect.ValueOf(&f).Elem().FieldByName(name).SetBool(true)
		got, err := probe(newModel(f))
		require.NoError(t, err, name)
		f.LongWrite = f.LongWrite || f.TapWrite // which takes 16 KiB, too
		require.Equal(t, f, got, "that feature alone")
	}
	_, err := probe(newModel(bpftest.Features{},
		bpftest.WithFault(func(string) error { return syscall.EIO })))
	require.ErrorIs(t, err, syscall.EIO, "a probe that fails says so")
	k, why := lab.Kernel()
	if k == nil {
		t.Log("no kernel was probed: ", why)
		return
	}
	f, err := probed()
	require.NoError(t, err)
	t.Logf("this kernel has:%s", describe(f))
}
