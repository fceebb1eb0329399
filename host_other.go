//go:build !freebsd

package zbuf

// Host returns a system whose Open fails with [ErrForeignOS]: this system is not FreeBSD.
func Host() System { return foreign{} }

type foreign struct{}

func (foreign) Open() (Backend, error) { return nil, ErrForeignOS }
