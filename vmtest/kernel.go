//go:build unix

package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/zbuf-go/zbuf/vmtest/internal/kernelset"
	"github.com/zbuf-go/zbuf/vmtest/internal/payload"
	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// KernelPath returns the path of the kernel that name chooses for guests of arch:
//   - name itself, if it has a slash
//   - kernel-ARCH in [CacheDir], if name is empty
//   - the file name in [CacheDir], if name begins with "kernel-", as kernel-amd64-14 does
//   - else kernel-ARCH-NAME in [CacheDir]
func KernelPath(name, arch string) string {
	switch {
	case strings.Contains(name, "/"):
		return name
	case strings.HasPrefix(name, "kernel-"):
	case name == "":
		name = "kernel-" + arch
	default:
		name = "kernel-" + arch + "-" + name
	}
	return filepath.Join(CacheDir(), name)
}

// prepareKernel makes c.Kernel the path of a kernel file. It chooses the named one, fetches the
// release or extracts the set that c asks for, unless an earlier run has done so.
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
			Arch: c.Arch, Mirror: c.Mirror, Cache: CacheDir(), Progress: terminal(c.Stderr),
			Note: note,
		}
		kernel, err := s.Release(ctx, c.Release)
		if err != nil {
			return err
		}
		c.Kernel = kernel
		return nil
	}
	name := c.Kernel
	c.Kernel = KernelPath(name, c.Arch)
	if !fileExists(c.Kernel) {
		return c.noKernel(name)
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

// noKernel is the error for a kernel that is not there.
func (c *Config) noKernel(name string) error {
	advice := fmt.Sprintf("put a FreeBSD/%s kernel there, name one or a release's kernel.txz by "+
		"--kernel or VMTEST_KERNEL, or fetch one with --release 15.1 (see `vmtest doctor`)", c.Arch)
	if name != "" && !strings.Contains(name, "/") {
		advice = "`vmtest kernels` lists what is there"
		if fileExists(name) {
			advice = "for the file " + name + " here write ./" + name
		}
	}
	return fmt.Errorf("there is no FreeBSD kernel at %s: %s", c.Kernel, advice)
}

// checkKernel refuses a kernel that cannot run the program before it boots.
func (c *Config) checkKernel(program string) error {
	if c.Image != "" {
		return nil
	}
	info, err := payload.ReadInfo(c.Kernel)
	if err != nil {
		return err
	}
	if info.Arch != c.Arch {
		return fmt.Errorf("the kernel %s is for %s, and the program for %s: it needs a kernel for %s",
			c.Kernel, info.Arch, program, c.Arch)
	}
	if program != "" && program != c.Arch && info.Compat32 == payload.No {
		return fmt.Errorf("the kernel %s was built without COMPAT_FREEBSD32: it cannot run a "+
			"program for %s", c.Kernel, program)
	}
	return nil
}

// terminal returns w if it is a terminal, where a progress bar can be drawn.
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

// maxStall is far from the silence that the runner takes for the guest's end.
const maxStall = 5 * time.Second

// check settles the settings of the machine that depend on each other. guest is the
// architecture that a kernel is wanted for, if that is known.
func (c *Config) check(guest string) error {
	if c.ICount {
		if c.Accel != "" && c.Accel != qemu.TCG {
			return fmt.Errorf("a clock that counts instructions (--icount) needs software emulation, not "+
				"%s: leave out --accel", c.Accel)
		}
		if c.Stall > 0 {
			return errors.New("a clock that counts instructions (--icount) does not notice that the guest " +
				"stands still (--stall): leave out one of them")
		}
		c.Accel = qemu.TCG
	}
	if c.Stall < 0 || c.Stall > maxStall {
		return fmt.Errorf("a guest may stand still for %v at most, not %v (--stall): the runner takes "+
			"a guest that is silent for %v for broken", maxStall, c.Stall, wire.SilenceLimit)
	}
	return c.checkArch(guest)
}

// checkArch settles the guest's architecture, which is that of guest unless c
// names one, and its firmware.
func (c *Config) checkArch(guest string) error {
	if c.Release != "" {
		c.Image = "" // --release asks for a kernel, whatever VMTEST_IMAGE says
	}
	if c.Arch == "" && c.Image == "" {
		c.Arch = guest
	}
	if c.Arch == "" {
		c.Arch = "amd64"
		if name := filepath.Base(c.Image); strings.Contains(name, "aarch64") ||
			strings.Contains(name, "arm64") {
			c.Arch = "arm64"
		}
	}
	if !slices.Contains([]string{"amd64", "arm64", "riscv64"}, c.Arch) || c.Image != "" &&
		c.Arch == "riscv64" {
		return fmt.Errorf("guests of architecture %q are not supported: want amd64, arm64 or riscv64, "+
			"of an image amd64 or arm64", c.Arch)
	}
	if c.Image != "" && len(c.Tunables) > 0 {
		return errors.New("tunables are for a kernel boot: an image has a loader and a " +
			"/boot/loader.conf of its own")
	}
	if c.Image != "" && c.Arch == "arm64" && c.Firmware == "" {
		for _, f := range firmwares {
			if fileExists(f) {
				c.Firmware = f
				return nil
			}
		}
		return errors.New("an arm64 image needs UEFI firmware: install qemu-efi-aarch64, or name " +
			"QEMU_EFI.fd or edk2-aarch64-code.fd by --firmware")
	}
	if c.Firmware != "" && !fileExists(c.Firmware) {
		return fmt.Errorf("there is no firmware at %s", c.Firmware)
	}
	return nil
}
