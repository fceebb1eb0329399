package zbuf_test

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// twoCalls asks for the index as the running kernel is asked: with one call for the name and one
// for the index of that name. between runs after the first call.
type twoCalls struct {
	zbuf.Backend
	k       *bpftest.Kernel
	asked   *int
	between func()
}

func (b twoCalls) InterfaceIndex() (int, error) {
	*b.asked++
	index, err := b.Backend.InterfaceIndex()
	var r zbuf.Ifreq
	if b.Backend.Ioctl(zbuf.BIOCGETIF, &r) != nil {
		return 0, syscall.ENXIO
	}
	name, _, _ := bytes.Cut(r.Name[:], []byte{0})
	if b.between != nil {
		b.between()
	}
	if b.k.Interface(string(name)) == nil {
		return 0, syscall.ENXIO
	}
	return index, err
}

// noIndex is a kernel whose tap em0 is no network interface.
type noIndex struct{ zbuf.Backend }

func (b noIndex) InterfaceIndex() (int, error) { return 0, syscall.ENXIO }

func TestInterfaceIndexTellsGoneFromRenamed(t *testing.T) {
	remove := func(em0 *bpftest.Interface) func() { return em0.Remove }
	moveAway := func(em0 *bpftest.Interface) func() { return em0.MoveAway }
	for name, c := range map[string]struct {
		features bpftest.Features
		between  func(em0 *bpftest.Interface) func()
		err      error
		most     int // questions
	}{
		"renamed once in between": {most: 2, between: func(em0 *bpftest.Interface) func() {
			done := false
			return func() {
				if !done {
					done = true
					em0.Rename("wan")
				}
			}
		}},
		"renamed three times": {most: 4, between: func(em0 *bpftest.Interface) func() {
			n := 0
			return func() {
				if n++; n <= 3 {
					em0.Rename(fmt.Sprint("wan", n))
				}
			}
		}},
		"removed in between":     {err: syscall.ENXIO, most: 1, between: remove},
		"in another vnet, on 12": {err: syscall.ENXIO, most: 4, between: moveAway},
		"in another vnet, on 16": {err: syscall.ENXIO, most: 4, between: moveAway,
			features: bpftest.Features{IfList: true}},
	} {
		t.Run(name, func(t *testing.T) {
			k := bpftest.New(bpftest.WithFeatures(c.features))
			em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
			b, err := k.Open()
			require.NoError(t, err)
			asked := 0
			d, err := zbuf.Adopt(twoCalls{Backend: b, k: k, asked: &asked, between: c.between(em0)})
			require.NoError(t, err)
			defer d.Close()
			require.NoError(t, d.SetInterface("em0"))
			index, err := d.InterfaceIndex()
			if c.err != nil {
				assert.ErrorIs(t, err, c.err)
			} else {
				assert.NoError(t, err)
				assert.NotZero(t, index)
			}
			assert.LessOrEqual(t, asked, c.most)
		})
	}
}

func TestInterfaceIndexOfATapThatIsNoInterfaceIsZero(t *testing.T) {
	open := func(f bpftest.Features) (*bpftest.Interface, *zbuf.Device) {
		k := bpftest.New(bpftest.WithFeatures(f))
		em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
		b, err := k.Open()
		require.NoError(t, err)
		d, err := zbuf.Adopt(noIndex{b})
		require.NoError(t, err)
		t.Cleanup(func() { d.Close() })
		return em0, d
	}
	em0, d := open(bpftest.Features{IfList: true})
	_, err := d.InterfaceIndex()
	assert.ErrorIs(t, err, syscall.ENXIO, "not attached")
	require.NoError(t, d.SetInterface("em0"))
	allowed := []zbuf.Request{zbuf.BIOCGETIF}
	for _, sandboxed := range []bool{false, true} {
		if sandboxed {
			require.NoError(t, d.Limit(allowed, false))
		}
		index, err := d.InterfaceIndex()
		assert.NoError(t, err, "sandboxed: %v", sandboxed)
		assert.Zero(t, index)
	}
	em0.Remove()
	_, err = d.InterfaceIndex()
	assert.ErrorIs(t, err, syscall.ENXIO, "the tap has gone")

	_, d = open(bpftest.Features{})
	require.NoError(t, d.SetInterface("em0"))
	_, err = d.InterfaceIndex()
	assert.ErrorIs(t, err, syscall.ENXIO, "before 16 every tap is a network interface")
}
