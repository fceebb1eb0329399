package conformance

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// These rules need a kernel: processes, page protection, more than one view of memory.

// lendMapped lends a page each of memory mapped with the given flags.
func (s *sess) lendMapped(flags int) *sess {
	s.t.Helper()
	s.set(zbuf.BIOCSETBUFMODE, zmode)
	for i := range s.buf {
		b, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|flags)
		require.NoError(s.t, err)
		s.buf[i], s.h[i] = b, lab.HeaderOf(b)
	}
	s.do(zbuf.BIOCSETZBUF, s.zbuf(page))
	return s
}

// whileForked runs f while a child made by fork(2) is alive.
func whileForked(t *testing.T, f func()) {
	t.Helper()
	pid, err := lab.Fork()
	require.NoError(t, err)
	f()
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	_, err = unix.Wait4(pid, nil, 0, nil)
	require.NoError(t, err)
}

var _ = add(
	rule{name: "fork/private buffers: capture is dead after an acknowledgement",
		only: kernel, why: "a model has no fork",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair().lendMapped(unix.MAP_PRIVATE)
			s.attach(s.p.A)
			s.inject(1)
			s.rotate()
			require.True(t, s.h[0].Owned())
			whileForked(t, func() { s.h[0].Ack() })
			s.inject(2 * full)
			require.Equal(t, 1, int(s.h[0].KernelGen.Load()), "the kernel's page is another one")
			s.inject(2 * full)
			require.Equal(t, 1, int(s.h[0].KernelGen.Load()), "also after the child is gone")
			_, drop := s.stats()
			require.NotZero(t, drop)
		}},
	rule{name: "fork/shared buffers: nothing happens",
		only: kernel, why: "a model has no fork",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair().lendMapped(unix.MAP_SHARED)
			s.attach(s.p.A)
			s.inject(1)
			s.rotate()
			whileForked(t, func() { s.h[0].Ack() })
			want := s.inject(3)
			which, _ := s.rotate()
			require.Equal(t, 1, which)
			s.requireFrames(s.contents(1), want...)
			s.h[1].Ack()
			s.inject(2*full + 1)
			_, drop := s.stats()
			require.Equal(t, 1, int(drop))
		}},
	rule{name: "memory/PROT_NONE does not disturb the kernel",
		only: kernel, why: "a model's memory is Go's heap",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			for _, b := range s.buf {
				require.NoError(t, unix.Mprotect(b, unix.PROT_NONE))
			}
			want := s.inject(5)
			which, n := s.rotate()
			require.Equal(t, 0, which)
			require.Equal(t, 4*stride+one, n)
			for _, b := range s.buf {
				require.NoError(t, unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE))
			}
			s.requireFrames(s.contents(0), want...)
		}},
	rule{name: "memory/read-only is EFAULT",
		only: kernel, why: "a model's memory is Go's heap",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			s.alloc(2 * page)
			require.NoError(t, unix.Mprotect(s.buf[1][page:], unix.PROT_READ))
			s.refuse(syscall.EFAULT, zbuf.BIOCSETZBUF, s.zbuf(2*page))
			require.NoError(t, unix.Mprotect(s.buf[1][page:], unix.PROT_READ|unix.PROT_WRITE))
			s.do(zbuf.BIOCSETZBUF, s.zbuf(2*page))
		}},
	rule{name: "memory/unmapped is EFAULT",
		only: kernel, why: "a model's memory is Go's heap",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			s.alloc(page)
			nowhere, err := lab.Nowhere()
			require.NoError(t, err)
			s.refuse(syscall.EFAULT, zbuf.BIOCSETZBUF, &zbuf.Zbuf{Bufa: &s.buf[0][0], Bufb: nowhere,
				Buflen: page})
		}},
	rule{name: "memory/two views of one object: one is lent, the other read",
		only: kernel, why: "a model's memory is Go's heap",
		run: func(t *testing.T, w lab.World) {
			lent, views, err := lab.TwoViews(page)
			require.NoError(t, err)
			s := open(t, w).pair()
			s.set(zbuf.BIOCSETBUFMODE, zmode)
			s.do(zbuf.BIOCSETZBUF, &zbuf.Zbuf{Bufa: &lent[0][0], Bufb: &lent[1][0], Buflen: page})
			s.attach(s.p.A)
			for _, b := range lent {
				require.NoError(t, unix.Mprotect(b, unix.PROT_NONE))
			}
			want := s.inject(2)
			var z zbuf.Zbuf
			s.do(zbuf.BIOCROTZBUF, &z)
			require.Same(t, &lent[0][0], z.Bufa)
			h := lab.HeaderOf(views[0])
			require.True(t, h.Owned())
			s.requireFrames(views[0][32:][:h.KernelLen.Load()], want...)
			h.Ack()
			want = s.inject(1)
			s.do(zbuf.BIOCROTZBUF, &z)
			require.Same(t, &lent[1][0], z.Bufa)
			s.requireFrames(views[1][32:][:lab.HeaderOf(views[1]).KernelLen.Load()], want...)
			require.NoError(t, s.Desc.Close())
			s.Desc = nil
			for _, b := range [][]byte{lent[0], lent[1], views[0], views[1]} {
				require.NoError(t, unix.Munmap(b))
			}
		}},
	rule{name: "memory/unmapping lent buffers does not hurt the kernel",
		only: kernel, why: "a model's memory is Go's heap",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			for i, b := range s.buf {
				require.NoError(t, s.Unmap(b))
				s.buf[i] = nil
			}
			s.inject(3 * full)
			recv, drop := s.stats()
			require.Equal(t, 3*full, int(recv))
			require.Equal(t, full, int(drop))
		}},
	rule{name: "memory/lent pages are wired until close",
		only: kernel, why: "a model has no pages",
		run: func(t *testing.T, w lab.World) {
			wired := func() int {
				n, err := unix.SysctlUint32("vm.stats.vm.v_wire_count")
				require.NoError(t, err)
				return int(n)
			}
			// Others wire pages and give them back, many at a time now and then. One turn in which nobody
			// did shows it.
			turn := func() (lent int, err error) {
				before := wired()
				s := open(t, w).lend(zmax)
				lent = wired() - before
				s.close()
				return lent, lab.Until(func() (bool, error) { return wired() < before+200, nil })
			}
			require.NoError(t, lab.Until(func() (bool, error) {
				lent, err := turn()
				return lent > 2*512-200 && lent < 2*512+200, err
			}))
		}},
	rule{name: "close/a duplicate keeps the session alive",
		only: kernel, why: "a model has no dup",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			n := len(listeners(t, w, s.p.A))
			dup, err := unix.Dup(s.Desc.(interface{ FD() int }).FD())
			require.NoError(t, err)
			require.NoError(t, s.Desc.Close())
			s.Desc = nil
			require.Len(t, listeners(t, w, s.p.A), n)
			s.inject(1)
			require.Equal(t, one, int(listeners(t, w, s.p.A)[0].Slen))
			require.NoError(t, unix.Close(dup))
			require.Len(t, listeners(t, w, s.p.A), n-1)
			for i, b := range s.buf {
				require.NoError(t, unix.Munmap(b))
				s.buf[i] = nil
			}
		}},
	rule{name: "signal/SIGIO to the owner for each wakeup",
		only: kernel, why: "a model sends no signals",
		run: func(t *testing.T, w lab.World) {
			c := make(chan os.Signal, 10)
			signal.Notify(c, unix.SIGIO, unix.SIGUSR1)
			defer signal.Stop(c)
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.inject(1)
			pid, on := int32(os.Getpid()), int32(1)
			s.do(zbuf.FIOSETOWN, &pid)
			s.do(zbuf.FIOASYNC, &on)
			for _, sig := range []unix.Signal{unix.SIGIO, unix.SIGUSR1} {
				s.set(zbuf.BIOCSRSIG, uint32(sig))
				s.inject(1)
				select {
				case got := <-c:
					require.Equal(t, os.Signal(sig), got)
				case <-time.After(lab.Patience):
					require.Fail(t, "no signal")
				}
			}
			s.set(zbuf.BIOCSRSIG, 0)
			s.inject(1)
			select {
			case got := <-c:
				require.Fail(t, "a signal", "%v", got)
			case <-time.After(quiet):
			}
		}},
	rule{name: "signal/TIOCSPGRP: a process group",
		only: kernel, why: "a model has no process groups",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			pgrp, got := int32(unix.Getpgrp()), int32(0)
			s.do(zbuf.TIOCSPGRP, &pgrp)
			s.do(zbuf.TIOCGPGRP, &got)
			require.Equal(t, pgrp, got)
			s.do(zbuf.FIOGETOWN, &got)
			require.Equal(t, -pgrp, got)
		}},
	rule{name: "root/what other users can't, and can",
		only: kernel, why: "a model is told who asks",
		run: func(t *testing.T, w lab.World) {
			p := lab.NewPair(t, w)
			out, err := child("nobody", "ZBUF_A="+p.A)
			require.NoError(t, err, "%s", out)
			require.Contains(t, out, "--- PASS: TestChild")
		}},
	rule{name: "capsicum/after cap_enter capture, rotation and statistics go on",
		only: kernel, why: "a model is not in capability mode",
		run: func(t *testing.T, w lab.World) {
			p := lab.NewPair(t, w)
			out, err := child("capsicum", "ZBUF_A="+p.A, "ZBUF_B="+p.B)
			require.NoError(t, err, "%s", out)
			require.Contains(t, out, "--- PASS: TestChild")
		}},
)

// child runs this binary again, for calls that can't be undone.
func child(what string, env ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(exe, "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), append(env, "ZBUF_CHILD="+what)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestChild is the process that child starts.
func TestChild(t *testing.T) {
	switch os.Getenv("ZBUF_CHILD") {
	case "":
		t.Skip("started by other tests")
	case "capsicum":
		inCapabilityMode(t)
	case "nobody":
		asNobody(t)
	}
}

func inCapabilityMode(t *testing.T) {
	w, why := lab.Kernel()
	require.NotNil(t, w, why)
	s := open(t, w).lend(page)
	s.attach(os.Getenv("ZBUF_A"))
	out := open(t, w)
	out.set(zbuf.BIOCSHDRCMPLT, 1)
	out.attach(os.Getenv("ZBUF_B"))
	require.NoError(t, s.Limit([]zbuf.Request{zbuf.BIOCROTZBUF, zbuf.BIOCGSTATS}, false))
	stats := make([]byte, 100*lab.SizeofListener)
	_, err := w.Stats(stats)
	require.NoError(t, err)

	_, _, errno := unix.Syscall(unix.SYS_CAP_ENTER, 0, 0, 0)
	require.Zero(t, errno)
	_, err = w.OpenMode(syscall.O_RDWR)
	require.Equal(t, error(syscall.Errno(unix.ECAPMODE)), err, "capability mode is on")
	_, err = w.Stats(stats)
	require.Equal(t, error(syscall.EPERM), err, "net.bpf.stats is refused")

	want := lab.Frame(64, 1)
	out.write(want)
	require.NoError(t, lab.Until(func() (bool, error) {
		recv, _ := s.stats()
		return recv == 1, nil
	}))
	require.False(t, s.Detached())
	which, _ := s.rotate()
	require.Equal(t, 0, which)
	require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(true))
	s.requireFrames(s.contents(0), want)
	s.h[0].Ack()
	s.refuse(notCapable, zbuf.FIONREAD, new(int32))
	s.refuse(notCapable, zbuf.BIOCGDLT, new(uint32))
	require.NoError(t, s.Wake())
	require.Equal(t, zbuf.Event{Woken: true}, s.wait(false))
}

func asNobody(t *testing.T) {
	w, why := lab.Kernel()
	require.NotNil(t, w, why)
	s := open(t, w)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}))
	require.NoError(t, syscall.Setuid(65534))
	_, err := w.OpenMode(syscall.O_RDWR)
	require.Equal(t, error(syscall.EACCES), err, "/dev/bpf is root's")
	require.ErrorIs(t, w.SetSysctl("net.bpf.zerocopy_enable", 1), syscall.EPERM)
	_, err = w.Sysctl("net.bpf.zerocopy_enable")
	require.NoError(t, err)
	_, err = w.Stats(make([]byte, 100*lab.SizeofListener))
	require.Equal(t, error(syscall.EPERM), err)
	require.Equal(t, error(syscall.EPERM), w.SetStats(make([]byte, lab.SizeofListener)))

	// A process that has a descriptor can use it, and can lend memory beyond RLIMIT_MEMLOCK.
	s.lend(zmax)
	s.attach(os.Getenv("ZBUF_A"))
	s.do(zbuf.BIOCPROMISC, nil)
	s.do(zbuf.BIOCSETF, acceptAll())
	s.stats()
}
