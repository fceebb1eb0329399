package bpf

import (
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf/filter"
)

// SetExpression replaces the filter, as [Reader.SetFilter] does, by an expression in the language
// of [Config].Expression. It compiles the expression for the link type of the reader and for the
// netmask that the interface has now. "" passes every packet. If SetExpression returns an error,
// the old filter stays in force, and nothing is discarded.
//
// Errors:
//   - [ErrConfig], with a [filter.Error] in it: the expression is wrong, no packet can match it, or
//     its program is too long for the kernel.
//   - Those of [Reader.SetFilter].
func (r *Reader) SetExpression(expression string, flush bool) error {
	if err := checkExpression(expression); err != nil {
		return err
	}
	var prog []xbpf.RawInstruction
	err := r.change(func() (err error) {
		prog, err = r.compile(expression)
		return err
	})
	if err != nil {
		return err
	}
	return r.install(prog, flush)
}

// compile makes a program of an expression. It makes ioctls, which stop the read timeout.
//
// compile does without a number that the kernel does not tell. Without the limit it takes FreeBSD's
// default. Without the netmask "ip broadcast" knows two addresses.
func (r *Reader) compile(expression string) ([]xbpf.RawInstruction, error) {
	opt := filter.Options{LinkType: r.dlt, SnapLen: r.snap.snapLen()}
	if n, err := r.dev.MaxInstructions(); err == nil {
		opt.MaxInstructions = n
	}
	if mask, err := r.dev.Netmask(); err == nil {
		opt.Netmask = mask
	}
	prog, err := filter.Compile(expression, opt)
	return prog, expressionError(err)
}
