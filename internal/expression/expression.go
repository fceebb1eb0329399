// Package expression has what bpfctl does with the expressions of package filter: it reads them,
// compiles them for the packets of a file, prints programs and says why a packet matches.
package expression

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/filter"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Read reads an expression from a file. There it may have comments, which become spaces.
func Read(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(filter.StripComments(string(text)), " \t\r\n"), nil
}

// ForFile returns the options that the packets of an interface of a file need. A file does not say
// which number IPv6 has as an address family where it was written.
func ForFile(i pcapio.Interface) filter.Options {
	opt := filter.Options{
		LinkType: zbuf.LinkTypeToDLT(i.LinkType), AFInet6: filter.AnyInet6,
		ByteOrder: binary.LittleEndian,
	}
	if i.BigEndian {
		opt.ByteOrder = binary.BigEndian
	}
	return opt
}

// Form is a form of printing a program, by the number of d in tcpdump's option.
type Form int

const (
	Assembler Form = 1 + iota // for people
	C                         // initializers of struct bpf_insn
	Numbers                   // the length, and four numbers for each instruction
)

// Print prints a program.
func Print(w io.Writer, prog []bpf.RawInstruction, form Form) error {
	var b strings.Builder
	switch form {
	case C:
		for _, in := range prog {
			fmt.Fprintf(&b, "{ 0x%x, %d, %d, 0x%08x },\n", in.Op, in.Jt, in.Jf, in.K)
		}
	case Numbers:
		fmt.Fprintln(&b, len(prog))
		for _, in := range prog {
			fmt.Fprintln(&b, in.Op, in.Jt, in.Jf, in.K)
		}
	default:
		b.WriteString(filter.Disassemble(prog))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ParseNetmask reads an IPv4 netmask, such as 255.255.255.0.
func ParseNetmask(s string) (uint32, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, fmt.Errorf("%q is not a netmask such as 255.255.255.0", s)
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:]), nil
}
