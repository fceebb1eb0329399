package zbuf

import "golang.org/x/sys/unix"

// Map returns anonymous shared memory. Private memory would be copied at the first write
// after a fork, and the kernel would go on with the pages nobody looks at.
func (d *descriptor) Map(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
}

func (d *descriptor) Unmap(mem []byte) error { return unix.Munmap(mem) }
