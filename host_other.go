//go:build !freebsd

package zbuf

// Host returns a system whose Open fails with ErrForeignOS: there is no bpf(4) of FreeBSD's
// kind here.
func Host() System { return foreign{} }

type foreign struct{}

func (foreign) Open() (Backend, error) { return nil, ErrForeignOS }
