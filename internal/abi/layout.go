package abi

import (
	"fmt"
	"strings"
)

// ABI has the rules by which the C compiler of one family of architectures lays out structs.
type ABI struct {
	Name    string // in file names
	Tag     string // the build constraint
	Pointer int    // bytes of a pointer, a size_t and a long
	Time    int    // bytes of a time_t
	Align64 int    // what a 64-bit integer is aligned to
}

// ABIs are those that FreeBSD has.
var ABIs = []ABI{
	{"64bit", "!386 && !arm && !mips && !mipsle", 8, 8, 8},
	{"386", "386", 4, 4, 4},
	{"arm32", "arm || mips || mipsle", 4, 8, 8},
}

// Layout is a struct as one ABI has it.
type Layout struct {
	Offsets []int // of each field
	Pads    []int // bytes of padding behind each field
	Size    int
}

// arrays are the lengths that array types name.
var arrays = map[string]int{"IFNAMSIZ": 16}

// goType returns what a field's type is in Go.
func (a ABI) goType(t string) string {
	switch t {
	case "time_t":
		return fmt.Sprintf("int%d", 8*a.Time)
	case "long":
		return fmt.Sprintf("int%d", 8*a.Pointer)
	}
	return t
}

// sizeAlign returns the size of a type and what it is aligned to.
func (a ABI) sizeAlign(t string) (size, align int) {
	t = a.goType(t)
	switch t {
	case "uint8", "byte":
		return 1, 1
	case "uint16":
		return 2, 2
	case "uint32", "int32":
		return 4, 4
	case "uint64", "int64":
		return 8, a.Align64
	case "uintptr":
		return a.Pointer, a.Pointer
	}
	if strings.HasPrefix(t, "*") {
		return a.Pointer, a.Pointer
	}
	if length, elem, ok := strings.Cut(t, "]"); ok {
		n, known := arrays[length[1:]]
		if !known {
			if _, err := fmt.Sscan(length[1:], &n); err != nil {
				panic("abi: array of unknown length: " + t)
			}
		}
		size, align = a.sizeAlign(elem)
		return n * size, align
	}
	for _, s := range Structs {
		if s.Name == t {
			for _, f := range s.Fields {
				_, fieldAlign := a.sizeAlign(f.Type)
				align = max(align, fieldAlign)
			}
			return a.Layout(s).Size, align
		}
	}
	panic("abi: unknown type " + t)
}

// Layout lays out a struct by the rules of C: each field at the next multiple of its alignment, and
// the size a multiple of the largest alignment.
func (a ABI) Layout(s Struct) (l Layout) {
	up := func(n, align int) int { return (n + align - 1) / align * align }
	largest := 1
	for _, f := range s.Fields {
		size, align := a.sizeAlign(f.Type)
		at := up(l.Size, align)
		if n := len(l.Pads); n > 0 {
			l.Pads[n-1] = at - l.Size
		}
		l.Offsets, l.Pads = append(l.Offsets, at), append(l.Pads, 0)
		l.Size = at + size
		largest = max(largest, align)
	}
	end := up(l.Size, largest)
	l.Pads[len(l.Pads)-1] = end - l.Size
	l.Size = end
	return l
}
