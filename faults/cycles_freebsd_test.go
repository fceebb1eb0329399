package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/sysctl"
)

// holdings counts the descriptors and the memory of a process, as the kernel lists them.
type holdings struct {
	descriptors int // kern.proc.filedesc
	mappings    int // kern.proc.vmmap
	mapped      uint64
	usable      uint64 // of it, what can be accessed: Go reserves address space, 64 MiB at a time
	wired       int    // of the whole machine, in pages
}

// Fields of struct kinfo_vmentry (sys/sys/user.h).
const (
	kveStart      = 8
	kveEnd        = 16
	kveProtection = 56
)

func held(t *testing.T) holdings {
	runtime.GC()
	h, err := look()
	require.NoError(t, err)
	h.wired = wired(t)
	return h
}

func look() (h holdings, err error) {
	// Both are runs of structs that begin with their size.
	count := func(name string, each func(entry []byte)) error {
		b, err := sysctl.Host().Raw(name, int32(os.Getpid()))
		for err == nil && len(b) > 0 {
			size := binary.NativeEndian.Uint32(b)
			if size < kveProtection+4 || int(size) > len(b) {
				return fmt.Errorf("%s: a struct of %d bytes in %d", name, size, len(b))
			}
			each(b[:size])
			b = b[size:]
		}
		return err
	}
	err = count("kern.proc.filedesc", func([]byte) { h.descriptors++ })
	return h, errors.Join(err, count("kern.proc.vmmap", func(e []byte) {
		size := binary.NativeEndian.Uint64(e[kveEnd:]) - binary.NativeEndian.Uint64(e[kveStart:])
		h.mappings++
		h.mapped += size
		if binary.NativeEndian.Uint32(e[kveProtection:]) != 0 {
			h.usable += size
		}
	}))
}

func (h holdings) String() string {
	return fmt.Sprintf("%d descriptors, %d mappings of %d KiB, %d of them usable, %d pages wired",
		h.descriptors, h.mappings, h.mapped>>10, h.usable>>10, h.wired)
}

// requireFlat waits until the process has no more than before; what one round alone would leave
// behind if it leaked is far more than the slack after many. Go's own memory may still grow a
// little.
func requireFlat(t *testing.T, before holdings) {
	t.Helper()
	var now holdings
	err := lab.Until(func() (bool, error) {
		now = held(t)
		return now.descriptors <= before.descriptors && now.mappings <= before.mappings+20 &&
			now.usable <= before.usable+16<<20 && now.wired < before.wired+1024, nil
	})
	t.Logf("before: %v", before)
	t.Logf("after:  %v", now)
	require.NoError(t, err, "before: %v; after: %v", before, now)
}

func TestOpenAndCloseLeaveNothing(t *testing.T) {
	inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		rng := seeded(t)
		p := lab.NewPair(t, w)
		cycle := func(i int) {
			// A leak of one cycle in a hundred shows: 10,000 of them would leave 3,200 pages or more.
			r, err := bpf.Open(p.A, bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: readTimeout})
			require.NoError(t, err, "cycle %d", i)
			got, why := r.Mode()
			require.Equal(t, mode, got, "%v", why)
			if rng.IntN(16) > 0 {
				require.NoError(t, r.Close())
				return
			}
			p.Inject(t, frame(uint32(i)))
			l, err := r.Lease(t.Context())
			require.NoError(t, err)
			require.NoError(t, r.Close())
			require.NoError(t, l.Release())
		}
		n := cycles.n()
		for i := range n / 10 { // until Go's own memory has found its size
			cycle(i)
		}
		before := held(t)
		for i := range n {
			cycle(i)
		}
		requireFlat(t, before)
		requireNobodyLeft(t, p.A)
		assert.Empty(t, listeners(t, p.A))
		lab.Report(t, lab.Operations, uint64(n))
	})
}
