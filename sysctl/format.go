package sysctl

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Type is the type of a sysctl's value (sys/sysctl.h).
type Type uint8

// The types. A node holds other sysctls. If it has a handler, it is a value that takes more numbers
// behind its name.
const (
	CTLTYPE_NODE   Type = 1
	CTLTYPE_INT    Type = 2
	CTLTYPE_STRING Type = 3
	CTLTYPE_S64    Type = 4
	CTLTYPE_OPAQUE Type = 5 // a struct or an array; the format string names it
	CTLTYPE_UINT   Type = 6
	CTLTYPE_LONG   Type = 7
	CTLTYPE_ULONG  Type = 8
	CTLTYPE_U64    Type = 9
	CTLTYPE_U8     Type = 10
	CTLTYPE_U16    Type = 11
	CTLTYPE_S8     Type = 12
	CTLTYPE_S16    Type = 13
	CTLTYPE_S32    Type = 14
	CTLTYPE_U32    Type = 15
)

const ctltype = 0xf // the part of a kind that is the Type

var types = [ctltype + 1]struct {
	name   string
	size   int // bytes; 0 is no integer
	signed bool
}{
	CTLTYPE_NODE:   {name: "node"},
	CTLTYPE_INT:    {"int", 4, true},
	CTLTYPE_STRING: {name: "string"},
	CTLTYPE_S64:    {"int64", 8, true},
	CTLTYPE_OPAQUE: {name: "opaque"},
	CTLTYPE_UINT:   {"unsigned int", 4, false},
	CTLTYPE_LONG:   {"long", strconv.IntSize / 8, true},
	CTLTYPE_ULONG:  {"unsigned long", strconv.IntSize / 8, false},
	CTLTYPE_U64:    {"uint64", 8, false},
	CTLTYPE_U8:     {"uint8", 1, false},
	CTLTYPE_U16:    {"uint16", 2, false},
	CTLTYPE_S8:     {"int8", 1, true},
	CTLTYPE_S16:    {"int16", 2, true},
	CTLTYPE_S32:    {"int32", 4, true},
	CTLTYPE_U32:    {"uint32", 4, false},
}

// String returns the name of the type, such as "unsigned int", or the number of an unknown
// type.
func (t Type) String() string {
	if t.valid() {
		return types[t].name
	}
	return "type " + strconv.Itoa(int(t))
}

func (t Type) valid() bool { return t <= ctltype && types[t].name != "" }

// Integer returns the bytes of one value, and whether it is signed. The size is 0 if the type is no
// integer. A long has the width that it has in this process, also if this is a 32-bit process on a
// 64-bit kernel.
func (t Type) Integer() (size int, signed bool) {
	if !t.valid() {
		return 0, false
	}
	return types[t].size, types[t].signed
}

// Flags say what a process can do with a sysctl (sys/sysctl.h).
type Flags uint32

// The flags that describe a sysctl to its users.
const (
	CTLFLAG_RD      Flags = 0x80000000 // can be read
	CTLFLAG_WR      Flags = 0x40000000 // can be written
	CTLFLAG_RW            = CTLFLAG_RD | CTLFLAG_WR
	CTLFLAG_DORMANT Flags = 0x20000000 // not active yet
	CTLFLAG_ANYBODY Flags = 0x10000000 // can be written by every user
	CTLFLAG_SECURE  Flags = 0x08000000 // can be written only below a securelevel
	CTLFLAG_PRISON  Flags = 0x04000000 // can be written by root in a jail
	CTLFLAG_DYN     Flags = 0x02000000 // can go away
	CTLFLAG_SKIP    Flags = 0x01000000 // is not listed
	CTLFLAG_TUN     Flags = 0x00080000 // can be set in loader.conf(5)
	CTLFLAG_MPSAFE  Flags = 0x00040000 // its handler needs no Giant
	CTLFLAG_VNET    Flags = 0x00020000 // each vnet(9) has its own
	CTLFLAG_CAPRD   Flags = 0x00008000 // can be read in capability mode
	CTLFLAG_CAPWR   Flags = 0x00004000 // can be written in capability mode
	CTLFLAG_STATS   Flags = 0x00002000 // a statistic, nothing to tune
)

// Format describes a sysctl's value, as the kernel tells it (sysctl.oidfmt).
type Format struct {
	Type  Type
	Flags Flags
	Fmt   string // how sysctl(8) prints it: "I", "LU", "A", "S,clockinfo"
}

// ReadOnly reports whether nobody can set the sysctl.
func (f Format) ReadOnly() bool { return f.Flags&CTLFLAG_WR == 0 }

// Tunable reports whether loader.conf(5) can set the sysctl.
func (f Format) Tunable() bool { return f.Flags&CTLFLAG_TUN != 0 }

// String returns a description for people, such as "int, read-write, tunable".
func (f Format) String() string {
	s := []string{f.Type.String()}
	if name, ok := strings.CutPrefix(f.Fmt, "S,"); ok {
		s[0] = "struct " + name
	}
	switch f.Flags & CTLFLAG_RW {
	case CTLFLAG_RW:
		s = append(s, "read-write")
	case CTLFLAG_WR:
		s = append(s, "write-only")
	default:
		s = append(s, "read-only")
	}
	if f.Tunable() {
		s = append(s, "tunable")
	}
	return strings.Join(s, ", ")
}

// ParseFormat parses the answer of sysctl.oidfmt: an unsigned int in host order, then a string that
// ends with a NUL.
//
// Errors:
//   - [ErrType]: b is something else.
func ParseFormat(b []byte) (Format, error) {
	if len(b) < 5 {
		return Format{}, fmt.Errorf("%w: the kernel returned a format of %d bytes; the shortest has 5",
			ErrType, len(b))
	}
	kind, text := binary.NativeEndian.Uint32(b), string(b[4:])
	text, rest, ended := strings.Cut(text, "\x00")
	if !ended || rest != "" {
		return Format{}, fmt.Errorf("%w: the format string %q does not end at its NUL", ErrType, b[4:])
	}
	f := Format{Type: Type(kind & ctltype), Flags: Flags(kind &^ ctltype), Fmt: text}
	if !f.Type.valid() {
		return Format{}, fmt.Errorf("%w: the kernel's type %d is unknown", ErrType, kind&ctltype)
	}
	return f, nil
}
