// Package sysctltest is a tree of sysctls in memory. It is for tests, and for programs that run on
// other systems than FreeBSD.
//
//	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
//	t := sysctl.New(sysctltest.New(sysctltest.BPF(k)...))
//	on, err := t.BPF().ZeroCopyEnabled()
//
// It takes the place of the kernel's one system call. It also has the kernel's directory of names,
// types and descriptions. So everything in package sysctl runs on it unchanged.
package sysctltest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/zbuf-go/zbuf/sysctl"
)

// Var is one sysctl.
type Var struct {
	Name        string
	Type        sysctl.Type // a CTLTYPE_NODE takes numbers behind its name
	Flags       sysctl.Flags
	Fmt         string
	Description string

	// Read returns the value. args are the numbers behind the name of a CTLTYPE_NODE. They are
	// empty for other types.
	Read func(args []int32) ([]byte, error)
	// Write sets the value. It is nil if Flags lack CTLFLAG_WR.
	Write func(value []byte) error
}

// Tree is a sysctl tree. Any goroutine may call any method. It implements [sysctl.System].
type Tree struct {
	mu  sync.RWMutex
	top node
}

// node is one component of names.
type node struct {
	name     string
	number   int32
	v        *Var
	children []*node // by number
}

var _ sysctl.System = (*Tree)(nil)

// New returns a tree of some variables.
func New(vars ...Var) *Tree {
	t := new(Tree)
	t.Add(vars...)
	return t
}

// Add adds variables. It replaces those that are there already.
func (t *Tree) Add(vars ...Var) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range vars {
		at := &t.top
		for part := range strings.SplitSeq(v.Name, ".") {
			child := at.named(part)
			if child == nil {
				child = &node{name: part, number: int32(len(at.children) + 1)}
				at.children = append(at.children, child)
			}
			at = child
		}
		at.v = &v
	}
}

func (n *node) named(name string) *node {
	i := slices.IndexFunc(n.children, func(c *node) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return n.children[i]
}

func (n *node) numbered(number int32) *node {
	if number < 1 || int(number) > len(n.children) {
		return nil
	}
	return n.children[number-1]
}

// Sysctl reads or sets a sysctl, as __sysctl(2) does. [sysctl.System] describes it.
func (t *Tree) Sysctl(mib []int32, old, new []byte) (int, error) {
	if len(mib) < 2 || len(mib) > 24 {
		return 0, syscall.EINVAL
	}
	if mib[0] == 0 {
		value, err := t.meta(mib[1], mib[2:], new)
		if err != nil {
			return 0, err
		}
		return out(value, old)
	}
	v, args, err := t.find(mib)
	switch {
	case err != nil:
		return 0, err
	case v == nil:
		return 0, syscall.EISDIR
	case new != nil && v.Flags&sysctl.CTLFLAG_WR == 0:
		return 0, syscall.EPERM
	case new != nil:
		return 0, v.Write(new)
	}
	value, err := v.Read(args)
	if err != nil {
		return 0, err
	}
	return out(value, old)
}

// out is SYSCTL_OUT.
func out(value, old []byte) (int, error) {
	if old == nil {
		return len(value), nil
	}
	if copy(old, value) < len(value) {
		return 0, syscall.ENOMEM
	}
	return len(value), nil
}

// find is sysctl_find_oid. v is nil for a node without a value.
func (t *Tree) find(mib []int32) (v *Var, args []int32, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	at := &t.top
	for i, number := range mib {
		at = at.numbered(number)
		switch {
		case at == nil:
			return nil, nil, syscall.ENOENT
		case at.v != nil && (at.v.Type == sysctl.CTLTYPE_NODE || i == len(mib)-1):
			return at.v, mib[i+1:], nil
		case at.v != nil:
			return nil, nil, syscall.ENOTDIR
		}
	}
	return nil, nil, nil
}

// The kernel's directory (sysctl.name and so on).
func (t *Tree) meta(entry int32, mib []int32, new []byte) ([]byte, error) {
	switch entry {
	case 1:
		return append([]byte(t.name(mib)), 0), nil
	case 2:
		t.mu.RLock()
		defer t.mu.RUnlock()
		if next := t.top.next(mib); next != nil {
			return binary.Append(nil, binary.NativeEndian, next)
		}
		return nil, syscall.ENOENT
	case 3:
		return t.lookup(string(new))
	}
	v, _, err := t.find(mib)
	switch {
	case err != nil:
		return nil, err
	case entry == 4 && v == nil:
		folder := uint32(sysctl.CTLTYPE_NODE) | uint32(sysctl.CTLFLAG_RW)
		return append(binary.NativeEndian.AppendUint32(nil, folder), "N\x00"...), nil
	case entry == 4:
		return append(binary.NativeEndian.AppendUint32(nil, uint32(v.Type)|uint32(v.Flags)), v.Fmt+
			"\x00"...), nil
	case entry == 5 && v != nil && v.Description != "":
		return []byte(v.Description + "\x00"), nil
	}
	return nil, syscall.ENOENT
}

func (t *Tree) lookup(name string) ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var mib []byte
	at := &t.top
	for part := range strings.SplitSeq(name, ".") {
		if at = at.named(part); at == nil {
			return nil, syscall.ENOENT
		}
		mib = binary.NativeEndian.AppendUint32(mib, uint32(at.number))
	}
	return mib, nil
}

func (t *Tree) name(mib []int32) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var parts []string
	at := &t.top
	for _, number := range mib {
		if at = at.numbered(number); at == nil {
			break
		}
		parts = append(parts, at.name)
	}
	return strings.Join(parts, ".")
}

// next returns the first variable behind mib, of those below n.
func (n *node) next(mib []int32) []int32 {
	for _, c := range n.children {
		var rest []int32
		if len(mib) > 0 {
			if c.number < mib[0] {
				continue
			}
			if c.number == mib[0] {
				rest = mib[1:]
				if c.v != nil {
					continue
				}
			}
		}
		if c.v != nil {
			return []int32{c.number}
		}
		if below := c.next(rest); below != nil {
			return append([]int32{c.number}, below...)
		}
	}
	return nil
}

// Value returns a variable that keeps its last value. A write of an integer with another length
// than the old value gives EINVAL.
func Value(name string, typ sysctl.Type, flags sysctl.Flags, format string, value []byte) Var {
	var mu sync.Mutex
	value = slices.Clone(value)
	return Var{Name: name, Type: typ, Flags: flags, Fmt: format,
		Read: func([]int32) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(value), nil
		},
		Write: func(v []byte) error {
			mu.Lock()
			defer mu.Unlock()
			switch size, _ := typ.Integer(); {
			case size != 0 && len(v) != len(value):
				return syscall.EINVAL
			case typ == sysctl.CTLTYPE_STRING:
				text, _, _ := bytes.Cut(v, []byte{0})
				value = append(slices.Clone(text), 0)
			default:
				value = slices.Clone(v)
			}
			return nil
		},
	}
}
