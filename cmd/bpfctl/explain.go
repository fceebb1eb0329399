package main

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/filter"
	"github.com/zbuf-go/zbuf/internal/capture/source"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/sysctl"
)

// explain makes one sentence of an error. It has the fault and what to do about it.
//
// An error of an expression has several lines. They point at the wrong words.
func explain(err error) string {
	var fe *filter.Error
	if errors.As(err, &fe) {
		return strings.TrimPrefix(fe.Error(), "filter: ")
	}
	var se *sysctl.Error
	if errors.As(err, &se) {
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return zbuf.ErrForeignOS.Error() + "; --model SCENARIO works anywhere"
		case errors.Is(err, fs.ErrPermission) && se.Op == "set":
			return "setting the sysctl " + se.Name + " needs root"
		case errors.Is(err, fs.ErrPermission):
			return "reading the sysctl " + se.Name + " needs root; " +
				"in a jail, the jail also needs its own network stack (VNET)"
		}
	}
	var ze *zbuf.Error
	refused := errors.Is(err, bpf.ErrZeroCopyRefused)
	if errors.As(err, &ze) && !refused {
		switch {
		case ze.Op == "open /dev/bpf" && errors.Is(err, fs.ErrPermission):
			return "no permission to open /dev/bpf (" + bpfOwner() + "): run as root, or join a group " +
				"and give it /dev/bpf in devfs.rules(5), such as `add path 'bpf*' mode 0660 group network`"
		case ze.Op == "BIOCSETIF" && errors.Is(err, syscall.ENXIO):
			return "no such interface: " + ze.Interface + " (ifconfig -l lists them)"
		}
	}
	if errors.Is(err, zbuf.ErrForeignOS) {
		return zbuf.ErrForeignOS.Error() + "; --replay FILE and --model SCENARIO work anywhere"
	}
	s := human.OneLine(err)
	if what, found := strings.CutPrefix(s, human.OneLine(bpf.ErrLinkType)+": "); found {
		return what + " (`bpfctl info` lists the link types)"
	}
	if refused && errors.Is(err, zbuf.ErrZeroCopyDisabled) {
		s = source.Refusal(err)
	}
	return strings.Replace(s, "configuration: BufferSize ", "--bufsize ", 1)
}
