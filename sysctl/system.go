package sysctl

// System makes the one system call that this package needs. Implement it to put something else than
// the running kernel below a [Tree].
type System interface {
	// Sysctl is __sysctl(2). It returns the bare errno. If old is nil, n is the number of bytes
	// that a read needs at least. Otherwise n is the number of bytes read into old, and the error
	// is ENOMEM if old is too short. If new is not nil, Sysctl sets the value to it.
	//
	// mib is the name in numbers. The names {0, n, ...} are the kernel's own directory: 1 name,
	// 2 next, 3 name2oid, 4 oidfmt, 5 oiddescr (sys/kern/kern_sysctl.c).
	Sysctl(mib []int32, old, new []byte) (n int, err error)
}

// The kernel's directory, by the second number of the name.
const (
	metaName    = 1
	metaNext    = 2
	metaName2ID = 3
	metaFormat  = 4
	metaDescr   = 5
)

// maxName is CTL_MAXNAME, the number of numbers that a name has at most.
const maxName = 24
