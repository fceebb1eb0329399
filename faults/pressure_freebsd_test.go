package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/sysctl"
)

func freePages() (int, error) {
	n, err := sysctl.Host().Int64("vm.stats.vm.v_free_count")
	return int(n), err
}

// hogLeaves is how many pages more than its floor a hog leaves free.
const hogLeaves = 32

// hog takes memory until few pages more are free than its argument says, and takes again what
// becomes free. It is wired: the kernel need not look through it all the time for what could be
// paged out, of which there is nothing.
func hog(args []string) error {
	floor, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	all := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &all); err != nil {
		return err
	}
	over := make(chan struct{})
	go func() { awaitStdin(); close(over) }()
	page := os.Getpagesize()
	taken, told := 0, false
	for {
		select {
		case <-over:
			return nil
		default:
		}
		free, err := freePages()
		if err != nil {
			return err
		}
		n := min((free-floor)/2, 8192)
		if n < hogLeaves/2 {
			if !told {
				say(taken)
				told = true
			}
			// no call tells when memory becomes free: the loop looks again
			time.Sleep(10 * time.Millisecond)
			continue
		}
		mem, err := unix.Mmap(-1, 0, n*page, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		if err := unix.Mlock(mem); err != nil {
			return err
		}
		taken += n
	}
}

// The stream goes on while the machine is nearly out of memory, and readers with the largest
// buffers come and go in what is left. Without swap, the memory that is taken can't be had back.
func TestMemoryPressure(t *testing.T) {
	lab.OnKernel(t)
	host := sysctl.Host()
	override := func(name string, v int) {
		restore, err := host.Override(name, v)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, restore()) })
	}
	// There is no swap. The kernel neither kills anybody for want of memory nor puts whole
	// processes to sleep, the guest's agent among them.
	override("vm.pageout_oom_seq", 1<<30)
	override("vm.swap_enabled", 0)
	if _, err := host.Int64("vm.max_wired"); errors.Is(err, fs.ErrNotExist) {
		override("vm.max_user_wired", 1<<30) // its name since 13
	} else {
		override("vm.max_wired", 1<<30)
	}
	least, err := host.Int64("vm.v_free_min")
	require.NoError(t, err)
	target, err := host.Int64("vm.v_free_target")
	require.NoError(t, err)
	pair := 2 * largest / os.Getpagesize()
	// One reader with the largest lent buffers takes it below the target.
	floor := int(target) + pair/2
	free, err := freePages()
	require.NoError(t, err)
	start := time.Now()
	h := startChild(t, "hog", floor)
	h.patience = 5 * time.Minute
	var taken int
	h.hear(&taken)
	t.Logf("of %d free pages %d are taken, in %v; the kernel begins to look for memory below %d, and "+
		"to make processes wait below %d",
		free, taken, time.Since(start).Round(time.Millisecond), target, least)

	inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		lowest := free
		watched(t, p, bpf.Config{Mode: mode, ReadTimeout: readTimeout},
			func(c *capture, sent func() uint32) int {
				until := time.Now().Add(atLeast(t))
				patience := time.Now().Add(lab.Patience)
				rounds := 0
				for ; rounds < pressure.n() || time.Now().Before(until) || lowest >= floor; rounds++ {
					if lowest >= floor {
						require.True(t, time.Now().Before(patience), "memory is short: %d pages are free, "+
							"and the hog leaves %d", lowest, floor)
					}
					require.NoError(t, lab.Until(func() (bool, error) {
						free, err := freePages()
						return free < floor+hogLeaves, err
					}), "what was freed is taken again")
					at := sent()
					r, err := bpf.Open(p.A, bpf.Config{Mode: mode, BufferSize: largest, ReadTimeout: readTimeout})
					require.NoError(t, err)
					free, err := freePages()
					require.NoError(t, err)
					lowest = min(lowest, free)
					data, _, err := r.ReadPacket(t.Context())
					require.NoError(t, err)
					assert.NotEmpty(t, data)
					require.NoError(t, r.Close())
					require.NoError(t, lab.Until(func() (bool, error) { return c.taken.Load() > uint64(at), nil }),
						"the capture goes on")
				}
				t.Logf("%d readers came and went; the fewest free pages seen are %d", rounds, lowest)
				return rounds
			})
		requireNobodyLeft(t, p.A)
	})
	h.release()
	h.finish()
}

// limited opens readers with more memory than the process may have.
func limited(args []string) error {
	had := func() error {
		r, err := bpf.Open(args[0], bpf.Config{Mode: bpf.ZeroCopy, BufferSize: largest})
		if err != nil {
			return fmt.Errorf("with the memory: %w", err)
		}
		return r.Close()
	}
	if err := had(); err != nil {
		return err
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &was); err != nil {
		return err
	}
	// Go's heap, which can't grow below the limit either, gets its room before, and its timers
	// their kqueue.
	room := make([]byte, 32<<20)
	runtime.KeepAlive(room)
	runtime.GC()
	time.AfterFunc(time.Hour, func() {}).Stop()
	h, err := look()
	if err != nil {
		return err
	}
	lim := unix.Rlimit{Cur: int64(h.mapped) + 4*largest, Max: was.Max}
	for mem := []byte(nil); ; lim.Cur -= largest / 4 { // until there is room for one buffer of two
		if err := unix.Setrlimit(unix.RLIMIT_AS, &lim); err != nil {
			return err
		}
		if mem, err = unix.Mmap(-1, 0, 2*largest, unix.PROT_READ,
			unix.MAP_ANON|unix.MAP_SHARED); err != nil {
			break
		}
		if err := unix.Munmap(mem); err != nil {
			return err
		}
	}
	var errs []string
	slow := 0 // one that is late says more about the machine
	for i := range 50 {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Auto} {
			if err := unix.Setrlimit(unix.RLIMIT_AS, &lim); err != nil {
				return err
			}
			start := time.Now()
			r, err := bpf.Open(args[0], bpf.Config{Mode: mode, BufferSize: largest})
			took := time.Since(start)
			if err := unix.Setrlimit(unix.RLIMIT_AS, &was); err != nil {
				return err
			}
			if err == nil {
				return errors.Join(fmt.Errorf("round %d, %v: it could be had", i, mode), r.Close())
			}
			if !errors.Is(err, syscall.ENOMEM) {
				return fmt.Errorf("round %d, %v, after %v: %w", i, mode, took, err)
			}
			if took > time.Second {
				slow++
			}
			errs = append(errs, err.Error())
		}
	}
	if 2*slow >= len(errs) {
		return fmt.Errorf("%d of %d errors took more than a second: %s", slow, len(errs), errs[0])
	}
	if err := had(); err != nil {
		return err
	}
	now, err := look()
	if err != nil {
		return err
	}
	if now.descriptors > h.descriptors || now.usable >= h.usable+largest {
		return fmt.Errorf("something is left: %v before, %v now", h, now)
	}
	say(errs)
	return nil
}

func TestMemoryThatCannotBeHad(t *testing.T) {
	w := lab.OnKernel(t)
	lab.WantZeroCopy(t, w)
	p := lab.NewPair(t, w)
	before := wired(t)
	c := startChild(t, "limited", p.A)
	var errs []string
	c.hear(&errs)
	c.finish()
	require.NotEmpty(t, errs)
	for _, e := range errs {
		require.Contains(t, e, "mmap")
		require.Contains(t, e, "cannot allocate memory")
		require.Contains(t, e, "smaller buffers")
	}
	t.Log(errs[0])
	requireNobodyLeft(t, p.A)
	requireWiredBack(t, before)
	lab.Report(t, lab.Faults, uint64(len(errs)))
}
