package sysctl

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrReadOnly is in the error of a set of a sysctl that no process may set. The kernel's errno is
	// EPERM, so the error is also fs.ErrPermission. Test for ErrReadOnly first.
	ErrReadOnly = errors.New("the sysctl is read-only")

	// ErrType is in the error if the sysctl, or the kernel's answer, has another type than the call
	// asks for.
	ErrType = errors.New("wrong type")

	// ErrRange is in the error if the value does not fit into the type of the sysctl or of the
	// result. It is in the error, too, if the kernel refused the value.
	ErrRange = errors.New("value out of range")
)

// Error is the error of every call on a [Tree].
type Error struct {
	Op   string // "get", "set", "describe", "format", "walk"
	Name string // the sysctl
	Err  error  // the errno, or one of this package's errors, or both
}

// Error returns the name of the sysctl, the operation and the error in one line.
func (e *Error) Error() string { return "sysctl " + e.Name + ": " + e.Op + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// opError names the operation and the sysctl. It keeps an error that has a name already.
func opError(op, name string, err error) error {
	var named *Error
	switch {
	case err == nil || errors.As(err, &named):
		return err
	case errors.Is(err, syscall.EISDIR):
		err = fmt.Errorf("%w: the sysctl is a node, which has no value (%w)", ErrType, err)
	case errors.Is(err, syscall.ENOTDIR):
		err = fmt.Errorf("%w: the sysctl is a value, and has nothing below it (%w)", ErrType, err)
	}
	return &Error{Op: op, Name: name, Err: err}
}

// setError adds the reason why the kernel refused a value of the right type.
func setError(f Format, err error) error {
	switch {
	case errors.Is(err, syscall.EPERM) && f.Flags&CTLFLAG_WR == 0:
		return fmt.Errorf("%w (%w)", ErrReadOnly, err)
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ERANGE), errors.Is(err, syscall.EDOM):
		return fmt.Errorf("%w: the kernel refused the value (%w)", ErrRange, err)
	}
	return err
}
