//go:build unix

package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/zbuf-go/zbuf/vmtest/internal/kernelset"
	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
)

// prepareKernel makes c.Kernel the path of a kernel file: it fetches the release
// or extracts the set that c asks for, unless an earlier run has done so.
func (c *Config) prepareKernel(ctx context.Context) error {
	note := func(format string, a ...any) { fmt.Fprintf(c.Stderr, "vmtest: "+format+"\n", a...) }
	if c.Image != "" {
		if !kernelset.IsPacked(c.Image) {
			return nil
		}
		image, err := kernelset.Unpack(c.Image, CacheDir(), note)
		if err != nil {
			return err
		}
		c.Image = image
		return nil
	}
	if c.Release != "" {
		s := kernelset.Source{
			Mirror: c.Mirror, Cache: CacheDir(), Progress: terminal(c.Stderr),
			Note: note,
		}
		kernel, err := s.Release(ctx, c.Release)
		if err != nil {
			return err
		}
		c.Kernel = kernel
		return nil
	}
	if !kernelset.IsSet(c.Kernel) {
		return nil
	}
	kernel, err := kernelset.Open(c.Kernel, CacheDir())
	if err != nil {
		return fmt.Errorf("kernel set: %w", err)
	}
	c.Kernel = kernel
	return nil
}

// terminal returns w if a progress bar has a place there.
func terminal(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// firmwares are the usual places of UEFI firmware for QEMU's arm64 machines, in
// Debian, Fedora, Homebrew and FreeBSD.
var firmwares = []string{
	"/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
	"/usr/share/edk2/aarch64/QEMU_EFI.fd",
	"/usr/share/qemu/edk2-aarch64-code.fd",
	"/opt/homebrew/share/qemu/edk2-aarch64-code.fd",
	"/usr/local/share/qemu/edk2-aarch64-code.fd",
}

// check settles what of the machine depends on each other.
func (c *Config) check() error {
	if c.ICount {
		if c.Accel != "" && c.Accel != qemu.TCG {
			return fmt.Errorf("a clock that counts instructions (--icount) needs software emulation, not %s: leave out --accel", c.Accel)
		}
		c.Accel = qemu.TCG
	}
	return c.checkArch()
}

// checkArch settles the guest's architecture and its firmware.
func (c *Config) checkArch() error {
	if c.Image == "" || c.Release != "" {
		if c.Arch != "" && c.Arch != "amd64" {
			return fmt.Errorf("a kernel file boots on amd64 alone: for %s name an image by --image or VMTEST_IMAGE", c.Arch)
		}
		if c.Image != "" {
			c.Image = "" // --release asks for a kernel, whatever VMTEST_IMAGE says
		}
	}
	if c.Arch == "" {
		c.Arch = "amd64"
		if name := filepath.Base(c.Image); strings.Contains(name, "aarch64") || strings.Contains(name, "arm64") {
			c.Arch = "arm64"
		}
	}
	if c.Image != "" && len(c.Tunables) > 0 {
		return errors.New("tunables are for a kernel boot: an image has a loader and a /boot/loader.conf of its own")
	}
	if c.Arch != "amd64" && c.Arch != "arm64" {
		return fmt.Errorf("guests of architecture %q are not supported: want amd64 or arm64", c.Arch)
	}
	if c.Image != "" && c.Arch == "arm64" && c.Firmware == "" {
		for _, f := range firmwares {
			if fileExists(f) {
				c.Firmware = f
				return nil
			}
		}
		return errors.New("an arm64 image needs UEFI firmware: install qemu-efi-aarch64, or name QEMU_EFI.fd or edk2-aarch64-code.fd by --firmware")
	}
	if c.Firmware != "" && !fileExists(c.Firmware) {
		return fmt.Errorf("there is no firmware at %s", c.Firmware)
	}
	return nil
}
