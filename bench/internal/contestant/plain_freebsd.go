package contestant

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

func init() {
	openers["read2"] = openRead
	openers["bare"] = openBare
}

// setUp opens a descriptor. buffers gives the descriptor its buffers.
func setUp(c Config, buffers func(fd int) error) (fd int, err error) {
	fd, err = unix.Open("/dev/bpf", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	one := int32(1)
	steps := []func() error{
		func() error { return buffers(fd) },
		func() error { return setFilter(fd, unix.BIOCSETF, c.Filter) },
		func() error {
			if c.Immediate {
				return ioctl(fd, unix.BIOCIMMEDIATE, &one)
			}
			return setTimeout(fd, c.Timeout)
		},
		func() error { return attach(fd, c.Interface) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// plain is a read(2) loop.
type plain struct {
	stop
	fd    int
	buf   []byte
	calls uint64
}

func openRead(c Config) (Contestant, error) {
	r := &plain{}
	size := uint32(c.Memory / 3)
	fd, err := setUp(c, func(fd int) error { return ioctl(fd, unix.BIOCSBLEN, &size) })
	r.fd, r.buf = fd, make([]byte, size)
	return r, err
}

func (r *plain) Run(t *Tally) error {
	for !r.Load() {
		r.calls++
		n, err := unix.Read(r.fd, r.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		walk(t, r.buf[:n])
	}
	return nil
}

func (r *plain) Syscalls() (uint64, bool) { return r.calls, true }
func (r *plain) Close() error             { return unix.Close(r.fd) }

// bare is the protocol of the lent buffers and nothing else: it handles no tails, no detach and no
// deadline.
type bare struct {
	stop
	fd    int
	mem   [2][]byte
	next  int
	wait  int // ms
	calls uint64
}

func openBare(c Config) (Contestant, error) {
	r := &bare{wait: int(c.Timeout.Milliseconds())}
	var err error
	r.fd, err = setUp(c, func(fd int) error {
		mode := uint32(unix.BPF_BUFMODE_ZBUF)
		if err := ioctl(fd, unix.BIOCSETBUFMODE, &mode); err != nil {
			return err
		}
		r.mem, err = lend(fd, c.Memory/2&^(unix.Getpagesize()-1))
		return err
	})
	return r, err
}

func (r *bare) Run(t *Tally) error {
	p := pollfd{fd: int32(r.fd), events: unix.POLLIN}
	for !r.Load() {
		h := header(r.mem[r.next])
		if gen := atomic.LoadUint32(&h.Kernel_gen); gen != h.User_gen {
			walk(t, r.mem[r.next][unix.SizeofBpfZbufHeader:][:h.Kernel_len])
			atomic.StoreUint32(&h.User_gen, gen)
			r.next ^= 1
			continue
		}
		r.calls++
		if err := poll(&p, r.wait); err != nil && err != unix.EINTR {
			return err
		}
		if h = header(r.mem[r.next]); atomic.LoadUint32(&h.Kernel_gen) != h.User_gen {
			continue
		}
		r.calls++
		var z unix.BpfZbuf
		if err := ioctl(r.fd, unix.BIOCROTZBUF, &z); err != nil {
			return err
		}
	}
	return nil
}

func (r *bare) Syscalls() (uint64, bool) { return r.calls, true }

func (r *bare) Close() error {
	err := unix.Close(r.fd)
	for _, m := range r.mem {
		unix.Munmap(m)
	}
	return err
}
