package zbuf

import "golang.org/x/sys/unix"

// Map returns anonymous shared memory. Private memory would be copied at the first write after a
// fork. The kernel would then go on with pages that nobody reads.
func (d *descriptor) Map(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
}

func (d *descriptor) Unmap(mem []byte) error { return unix.Munmap(mem) }

// shmAnon is SHM_ANON, the name of an object that has none.
const shmAnon = 1

// MapTwice maps a new shared memory object at two addresses.
func (d *descriptor) MapTwice(size int) (lent, view []byte, err error) {
	// shm_open(2) takes the number as the address of the name.
	fd, _, errno := unix.Syscall(unix.SYS_SHM_OPEN, shmAnon, unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errno != 0 {
		return nil, nil, errno
	}
	defer unix.Close(int(fd))
	if err := unix.Ftruncate(int(fd), int64(size)); err != nil {
		return nil, nil, err
	}
	const prot = unix.PROT_READ | unix.PROT_WRITE
	if lent, err = unix.Mmap(int(fd), 0, size, prot, unix.MAP_SHARED); err != nil {
		return nil, nil, err
	}
	if view, err = unix.Mmap(int(fd), 0, size, prot, unix.MAP_SHARED); err != nil {
		unix.Munmap(lent)
		return nil, nil, err
	}
	return lent, view, nil
}

// Protect changes the protection of whole mappings only.
func (d *descriptor) Protect(mem []byte, accessible bool) error {
	prot := unix.PROT_NONE
	if accessible {
		prot = unix.PROT_READ | unix.PROT_WRITE
	}
	return unix.Mprotect(mem, prot)
}
