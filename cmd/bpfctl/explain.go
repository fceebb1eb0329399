package main

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
)

// explain makes one sentence of an error: what is wrong and what to do about it.
func explain(err error) string {
	var ze *zbuf.Error
	if errors.As(err, &ze) && !errors.Is(err, bpf.ErrZeroCopyRefused) {
		switch {
		case ze.Op == "open /dev/bpf" && errors.Is(err, fs.ErrPermission):
			return "no permission to open /dev/bpf (" + bpfOwner() + "): run as root, or join a group and give it /dev/bpf in devfs.rules(5), " +
				"such as `add path 'bpf*' mode 0660 group network`"
		case ze.Op == "BIOCSETIF" && errors.Is(err, syscall.ENXIO):
			return "no such interface: " + ze.Interface + " (ifconfig -l lists them)"
		}
	}
	return oneLine(err)
}

// oneLine is the error's text without line breaks and package names.
func oneLine(err error) string {
	s := strings.ReplaceAll(err.Error(), "\n", "; ")
	return strings.ReplaceAll(s, "bpf: ", "")
}
