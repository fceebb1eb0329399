package vmtest

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// ErrProgram is wrapped by errors about a file that cannot run in the guest.
var ErrProgram = errors.New("cannot run in the guest")

// CheckProgram says whether the file at path is a static FreeBSD program for a
// guest of the architecture arch, amd64 (which runs 386 too) or arm64, with what
// to do if it is not.
func CheckProgram(path, arch string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return fmt.Errorf("%s %w: it is not a regular file", path, ErrProgram)
	}
	if err := checkELF(f, arch); err != nil {
		return fmt.Errorf("%s %w: %v", path, ErrProgram, err)
	}
	return nil
}

func checkELF(r io.ReaderAt, arch string) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return errors.New("it is not an ELF file (build it with GOOS=freebsd)")
	}
	defer f.Close()
	switch {
	case !isFreeBSD(f):
		return fmt.Errorf("it is an ELF file for %s, not for FreeBSD (build it with GOOS=freebsd)", strings.TrimPrefix(f.OSABI.String(), "ELFOSABI_"))
	case arch == "arm64" && f.Machine != elf.EM_AARCH64:
		return fmt.Errorf("it is for %s, the guest runs arm64 (build it with GOARCH=arm64)", strings.TrimPrefix(f.Machine.String(), "EM_"))
	case arch == "arm64":
	case f.Machine != elf.EM_X86_64 && f.Machine != elf.EM_386:
		return fmt.Errorf("it is for %s, the guest runs amd64 and 386 (build it with GOARCH=amd64)", strings.TrimPrefix(f.Machine.String(), "EM_"))
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is dynamically linked and the guest has no libraries (build it with CGO_ENABLED=0, without -race)")
		}
	}
	return nil
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
