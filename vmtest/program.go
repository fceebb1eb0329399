package vmtest

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// ErrProgram is in the error of [Run] and [CheckProgram] if a file cannot run in the guest.
var ErrProgram = errors.New("cannot run in the guest")

// guests names the guest that runs the programs of each machine, by Go's names
// for both.
var guests = map[elf.Machine]struct{ program, guest string }{
	elf.EM_X86_64:  {"amd64", "amd64"},
	elf.EM_386:     {"386", "amd64"},
	elf.EM_AARCH64: {"arm64", "arm64"},
	elf.EM_ARM:     {"arm", "arm64"},
	elf.EM_RISCV:   {"riscv64", "riscv64"},
}

// CheckProgram returns the architecture of the program at path, and that of the guest for it. An
// amd64 guest also runs 386 programs, and an arm64 guest also runs arm programs. If arch is empty,
// the program alone decides.
//
// Errors:
//   - [ErrProgram]: the file is no static FreeBSD program for a guest of arch. The error says what
//     to do.
//   - Those of package os: the file can't be read.
func CheckProgram(path, arch string) (program, guest string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "", "", fmt.Errorf("%s %w: it is not a regular file", path, ErrProgram)
	}
	if program, guest, err = checkELF(f, arch); err != nil {
		return "", "", fmt.Errorf("%s %w: %v", path, ErrProgram, err)
	}
	return program, guest, nil
}

func checkELF(r io.ReaderAt, arch string) (program, guest string, err error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return "", "", fmt.Errorf("%s (build it with GOOS=freebsd)", notELF(r))
	}
	defer f.Close()
	if !isFreeBSD(f) {
		if f.OSABI == elf.ELFOSABI_NONE || f.OSABI == elf.ELFOSABI_LINUX {
			return "", "", errors.New("this is a Linux program: set GOOS=freebsd")
		}
		return "", "", fmt.Errorf("it is a program for %s, not for FreeBSD: set GOOS=freebsd",
			strings.TrimPrefix(f.OSABI.String(), "ELFOSABI_"))
	}
	g, ok := guests[f.Machine]
	if !ok || f.Machine == elf.EM_RISCV && f.Class != elf.ELFCLASS64 {
		return "", "", fmt.Errorf("it is for %s, and guests are amd64, arm64 or riscv64",
			strings.TrimPrefix(f.Machine.String(), "EM_"))
	}
	if arch != "" && arch != g.guest {
		return "", "", fmt.Errorf("it is for %s, the guest is %s (build it with GOARCH=%s)", g.program,
			arch, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", "", errors.New("it is dynamically linked and the guest has no libraries (build it " +
				"with CGO_ENABLED=0, without -race)")
		}
	}
	return g.program, g.guest, nil
}

// notELF returns a sentence about the kind of a file that is no ELF file.
func notELF(r io.ReaderAt) string {
	var head [4]byte
	if n, _ := r.ReadAt(head[:], 0); n == len(head) { // a shorter file is nothing of the kind
		switch string(head[:]) {
		case "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe":
			return "this is a macOS program"
		}
		if string(head[:2]) == "MZ" {
			return "this is a Windows program"
		}
	}
	return "it is not an ELF file"
}

// isFreeBSD looks for the mark in the header, or the note that newer
// toolchains leave instead.
func isFreeBSD(f *elf.File) bool {
	if f.OSABI == elf.ELFOSABI_FREEBSD {
		return true
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOTE {
			continue
		}
		b, err := s.Data()
		if err == nil && len(b) >= 20 && string(b[12:19]) == "FreeBSD" {
			return true
		}
	}
	return false
}
