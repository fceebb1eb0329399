//go:build unix

// Vmtest runs a FreeBSD program on a FreeBSD kernel in QEMU. It is made for
//
//	GOOS=freebsd go test -exec vmtest ./...
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/internal/version"
	"github.com/zbuf-go/zbuf/vmtest"
)

// exitFault is the exit code if the end of the run says nothing about the program. Lower codes are
// those of the program.
const exitFault = 125

func main() {
	vmtest.Helper()
	code, err := run(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		report(os.Stderr, err)
		code = exitFault
	}
	os.Exit(code)
}

// report prints one sentence and, if there was a guest, its last words.
func report(w io.Writer, err error) {
	fmt.Fprintf(w, "vmtest: %v\n", err)
	var f *vmtest.Fault
	if errors.As(err, &f) && f.Console != "" {
		fmt.Fprintf(w, "vmtest: the last lines of the guest's console:\n")
		for _, l := range strings.Split(f.Console, "\n") {
			fmt.Fprintf(w, "  | %s\n", l)
		}
	}
}

func run(args []string, stdout, stderr io.Writer) (code int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	c := vmtest.DefaultConfig()
	c.Self = []string{self}
	c.Stdout, c.Stderr = stdout, stderr
	filesMiB := c.FilesLimit >> 20

	root := &cobra.Command{
		Use:   "vmtest [flags] PROGRAM [ARGS...]",
		Short: "Run a FreeBSD program on a FreeBSD kernel in QEMU",
		Long: `Vmtest runs a static FreeBSD program as root on a FreeBSD kernel in QEMU and
passes on its output, exit code, signals and the files it writes.

  GOOS=freebsd go test -exec vmtest ./...
  vmtest -- ./program arguments

Exit codes below 125 are the program's own; 125 means that it could not be run
to its end, with the reason on standard error.`,
		Version:       version.Build(),
		Args:          cobra.MinimumNArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.FilesLimit = filesMiB << 20
			code, err = vmtest.Run(cmd.Context(), c, args[0], args[1:])
			return err
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.Flags().SetInterspersed(false) // arguments behind the program belong to it
	probe := false
	kernels := &cobra.Command{
		Use:   "kernels",
		Short: "List the kernels in the cache folder",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ok, err := vmtest.Kernels(cmd.Context(), c, probe, stdout)
			if err == nil && !ok {
				code = 1
			}
			return err
		},
	}
	kernels.Flags().BoolVar(&probe, "probe", false, "boot each, and ask it")
	root.AddCommand(
		&cobra.Command{
			Use:   "doctor",
			Short: "Say what is missing on this machine and how to get it",
			Args:  cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				if !vmtest.Doctor(c, stdout) {
					code = 1
				}
				return nil
			},
		},
		kernels,
		&cobra.Command{
			Use:   "console",
			Short: "Look around in a guest at a prompt of its own",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c.FilesLimit = filesMiB << 20
				code, err = vmtest.Console(cmd.Context(), c)
				return err
			},
		},
	)
	f := root.PersistentFlags()
	f.StringVar(&c.Kernel, "kernel", c.Kernel, "`name` of a kernel in the cache folder, or with a "+
		"slash the path of one or of a release's kernel.txz (VMTEST_KERNEL)")
	f.StringVar(&c.Release, "release", "", "fetch the kernel of FreeBSD `version`, such as 15.1, and "+
		"keep it (from VMTEST_MIRROR)")
	f.StringVar(&c.Image, "image", c.Image, "boot the raw or qcow2 image in `file`, also .xz, "+
		"instead of a kernel (VMTEST_IMAGE)")
	f.StringVar(&c.Arch, "arch", "", "amd64, arm64 or riscv64 (default: what the program or the name "+
		"of the image says)")
	f.StringVar(&c.Firmware, "firmware", "", "UEFI firmware `file` for an image; arm64 needs one")
	f.StringArrayVar(&c.Sysctls, "sysctl", nil, "set `name=value` before the program (repeatable)")
	f.StringArrayVar(&c.Tunables, "tunable", nil, "set `name=value` in the kernel's environment "+
		"before it boots (repeatable)")
	f.StringSliceVar(&c.Modules, "kld", nil, "load the kernel module `name`, found beside the "+
		"kernel, unless it is built in (repeatable)")
	f.IntVar(&c.MemMiB, "mem", c.MemMiB, "memory of the guest in `MiB`")
	f.IntVar(&c.CPUs, "smp", c.CPUs, "processors of the guest")
	f.StringVar(&c.CPU, "cpu", "", "processor `model`, see qemu-system-x86_64 -cpu help (default: "+
		"host, or a plain one in software emulation)")
	f.StringVar(&c.Accel, "accel", "", "kvm, hvf or tcg (default: the best that works)")
	f.BoolVar(&c.ICount, "icount", false, "let the guest's clock count instructions, so that times "+
		"in it do not depend on the host's load (software emulation)")
	f.DurationVar(&c.Stall, "stall", 0, "stop the guest again and again at random, for `TIME` at "+
		"most, as a busy host does: this finds tests that rely on time")
	f.StringVar(&c.QEMU, "qemu", "", "QEMU binary (default qemu-system-x86_64, or the one for "+
		"the guest)")
	f.BoolVar(&c.NoReuse, "no-reuse", false, "boot a guest for this program alone")
	f.StringArrayVar(&c.Copy, "copy", nil, "take `path` and what is below it along to the guest "+
		"(repeatable)")
	f.Int64Var(&filesMiB, "files-limit", filesMiB, "`MiB` of files that may go along")
	f.BoolVarP(&c.Stdin, "stdin", "i", false, "forward standard input")
	f.BoolVarP(&c.Verbose, "verbose", "v", false, "tell about the boot and the time it takes")
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	eerr := root.ExecuteContext(context.Background())
	return code, eerr
}
