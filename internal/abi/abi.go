// Package abi describes FreeBSD's bpf(4) interface as tables: the ioctl requests, the structs that
// they take, and the link types. The generated files of package zbuf (z*.go) follow from them.
//
// To add an ioctl, write it down in three places and run `go generate .` in the module's root:
//
//  1. A row in [Requests], and in [Structs] if its argument is a new struct (table.go).
//  2. A method of zbuf.Device, beside those for the same topic.
//  3. The answer of the model, in bpf/bpftest/ioctl.go.
//
// The constant, its number on every architecture, its name, documentation, argument and layout are
// generated, and so are the lists that tests go through.
package abi

// Direction says whether the kernel reads or writes the argument.
type Direction string

// Directions of a request, by the constants of package zbuf.
const (
	Void  Direction = "iocVoid"
	Out   Direction = "iocOut"
	In    Direction = "iocIn"
	InOut Direction = "iocIn | iocOut"
)

// Request is one ioctl request.
type Request struct {
	Name   string
	Dir    Direction
	Group  byte   // 'B', 'f' or 't'
	Number int    // within the group
	Arg    string // Go type of the argument; "" is none
	Locked bool   // the kernel answers it after BIOCLOCK
	Method string // of zbuf.Device
	Doc    string // completes "BIOCX …"
	New    bool   // golang.org/x/sys/unix does not have it
}

// Struct is one struct of <net/bpf.h> and its neighbours.
type Struct struct {
	Name   string
	C      string
	Doc    string // follows "Name is struct C"
	Fields []Field
}

// Field is a field of a struct. Its Type is a Go type with a size of its own, a struct of this
// package, or one of the C types time_t and long.
type Field struct {
	Name, Type, Doc string
}

// DLT is a link type.
type DLT struct {
	Name     string // without DLT_
	Number   int
	LinkType int    // in capture files, if that is another number
	Doc      string // for those that FreeBSD's own interfaces have
}
