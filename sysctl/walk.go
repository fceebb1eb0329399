package sysctl

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"syscall"
)

// Walk iterates over the names of all values at and below root, in the kernel's order. If root is
// empty, it iterates over all values. It may leave out or include a value that comes or goes
// meanwhile. It ends after the first error.
func (t Tree) Walk(root string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := t.walk(root, yield); err != nil {
			yield("", opError("walk", root, err))
		}
	}
}

func (t Tree) walk(root string, yield func(string, error) bool) error {
	var top []int32
	if root != "" {
		var err error
		if top, err = t.mib(root); err != nil {
			return err
		}
	}
	at, err := t.next(top)
	if err != nil || !below(at, top) {
		return t.leaf(root, top, err, yield)
	}
	for below(at, top) {
		name, err := t.name(at)
		if errors.Is(err, syscall.ENOENT) {
			err = nil // gone meanwhile
		} else if err == nil && !yield(name, nil) {
			return nil
		}
		if err != nil {
			return err
		}
		next, err := t.next(at)
		switch {
		case errors.Is(err, syscall.ENOENT):
			return nil
		case err != nil:
			return err
		case slices.Compare(next, at) <= 0:
			return fmt.Errorf("%w: the kernel returned %[3]v after %[2]v, which is not later", ErrType, at,
				next)
		}
		at = next
	}
	return nil
}

// leaf ends the walk of a name that has nothing below it. err is the error of next for that name.
func (t Tree) leaf(root string, mib []int32, err error, yield func(string, error) bool) error {
	if err != nil && !errors.Is(err, syscall.ENOENT) || len(mib) == 0 {
		return err
	}
	f, err := t.format(mib)
	if err != nil {
		return err
	}
	if f.Type == CTLTYPE_NODE {
		if _, err := t.call(mib, nil, nil); errors.Is(err, syscall.EISDIR) {
			return nil // a node without a handler, and empty
		}
	}
	yield(root, nil)
	return nil
}

func below(mib, top []int32) bool {
	return len(mib) > len(top) && slices.Equal(mib[:len(top)], top)
}

// next returns the name of the value after mib (sysctl.next). After the last one the error is
// ENOENT.
func (t Tree) next(mib []int32) ([]int32, error) {
	b, err := t.meta(metaNext, mib)
	if err != nil {
		return nil, err
	}
	return numbers(b)
}

func (t Tree) name(mib []int32) (string, error) {
	b, err := t.meta(metaName, mib)
	name, _, _ := strings.Cut(string(b), "\x00")
	return name, err
}
