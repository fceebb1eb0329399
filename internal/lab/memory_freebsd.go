package lab

import "golang.org/x/sys/unix"

// Nowhere returns the address of a page that is not mapped.
func Nowhere() (*byte, error) {
	b, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ, unix.MAP_ANON|unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	p := &b[0]
	return p, unix.Munmap(b)
}

// TwoViews maps two pieces of shared memory, both of them twice.
func TwoViews(size int) (first, second [2][]byte, err error) {
	for i := range 2 {
		const anon = 1 // SHM_ANON
		fd, _, errno := unix.Syscall(unix.SYS_SHM_OPEN, anon, unix.O_RDWR, 0o600)
		if errno != 0 {
			return first, second, errno
		}
		defer unix.Close(int(fd))
		if err := unix.Ftruncate(int(fd), int64(size)); err != nil {
			return first, second, err
		}
		for _, v := range []*[2][]byte{&first, &second} {
			if v[i], err = unix.Mmap(int(fd), 0, size, unix.PROT_READ|unix.PROT_WRITE,
				unix.MAP_SHARED); err != nil {
				return first, second, err
			}
		}
	}
	return first, second, nil
}

// Wired returns the bytes that the kernel can't page out.
func Wired() (int64, error) {
	pages, err := unix.SysctlUint32("vm.stats.vm.v_wire_count")
	return int64(pages) * int64(unix.Getpagesize()), err
}
