//go:build freebsd

package contestant

import (
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ioctl passes a pointer to a struct. The request's number has the size of that struct.
func ioctl[T any](fd int, req uintptr, arg *T) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req,
		uintptr(unsafe.Pointer(arg))); e != 0 {
		return e
	}
	return nil
}

// lend lends two buffers of size bytes to the kernel.
func lend(fd, size int) (mem [2][]byte, err error) {
	for i := range mem {
		if mem[i], err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_ANON|unix.MAP_SHARED); err != nil {
			return mem, err
		}
	}
	z := unix.BpfZbuf{Bufa: &mem[0][0], Bufb: &mem[1][0], Buflen: uint64(size)}
	return mem, ioctl(fd, unix.BIOCSETZBUF, &z)
}

// program is struct bpf_program.
func setFilter(fd int, req uintptr, prog []bpf.RawInstruction) error {
	p := unix.BpfProgram{Len: uint32(len(prog)), Insns: (*unix.BpfInsn)(unsafe.Pointer(&prog[0]))}
	return ioctl(fd, req, &p)
}

// attach calls BIOCSETIF.
func attach(fd int, name string) error {
	var req struct {
		name  [unix.IFNAMSIZ]byte
		union [16]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	return ioctl(fd, unix.BIOCSETIF, &req)
}

func setTimeout(fd int, t time.Duration) error {
	tv := unix.NsecToTimeval(int64(t))
	return ioctl(fd, unix.BIOCSRTIMEOUT, &tv)
}

// pollfd is struct pollfd.
type pollfd struct {
	fd              int32
	events, revents int16
}

func poll(p *pollfd, ms int) error {
	if _, _, e := unix.Syscall(unix.SYS_POLL, uintptr(unsafe.Pointer(p)), 1, uintptr(ms)); e != 0 {
		return e
	}
	return nil
}

// header is the header of a lent buffer.
func header(mem []byte) *unix.BpfZbufHeader {
	return (*unix.BpfZbufHeader)(unsafe.Pointer(&mem[0]))
}

// walk visits the records as a C program does: it does not check them.
func walk(t *Tally, mem []byte) {
	p, n := unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem))
	for at := uintptr(0); at < n; {
		h := (*unix.BpfHdr)(unsafe.Add(p, at))
		t.Packet(unsafe.Slice((*byte)(unsafe.Add(p, at+uintptr(h.Hdrlen))), h.Caplen))
		at = (at + uintptr(h.Hdrlen) + uintptr(h.Caplen) + 7) &^ 7
	}
}
