package sysctl

// System is the one call into a kernel that everything here is made of. Implement it to
// put something else below a [Tree].
type System interface {
	// Sysctl is __sysctl(2) and returns its bare errno. With old nil it returns
	// the number of bytes that a read would need at least, else that number as read;
	// ENOMEM when old is too short. A new that is not nil is written.
	//
	// Names are numbers here. The entries {0, n, ...} are the kernel's own
	// directory: 1 name, 2 next, 3 name2oid, 4 oidfmt, 5 oiddescr
	// (sys/kern/kern_sysctl.c).
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

// maxName is CTL_MAXNAME: how many numbers a name has at most.
const maxName = 24
