package bpf

import (
	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf/filter"
)

// SetExpression is SetFilter with an expression, as Config.Expression has it. It is compiled for
// the link type of the reader and for the netmask that the interface has now. "" passes every
// packet. A wrong expression changes nothing. Errors: ErrConfig, with a [filter.Error] in it; those
// of SetFilter.
func (r *Reader) SetExpression(expression string, flush bool) error {
	if err := checkExpression(expression); err != nil {
		return err
	}
	var prog []bpf.RawInstruction
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
// What the kernel does not tell is not needed: without the limit it is FreeBSD's default, and
// without the netmask "ip broadcast" knows two addresses.
func (r *Reader) compile(expression string) ([]bpf.RawInstruction, error) {
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
