// Bpfctl captures packets through bpf(4) of FreeBSD.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/scenario"
	"github.com/zbuf-go/zbuf/internal/version"
	"github.com/zbuf-go/zbuf/sysctl"
)

// Exit codes.
const (
	exitOK    = 0
	exitFail  = 1 // the command failed, or did not reach its end
	exitUsage = 2 // the command line is wrong, and the command did nothing
)

func main() {
	// When a pipe's reader goes away, writing fails. It must not end the process.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(runOn(&target{enter: capEnter}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs the program in a process that goes on afterwards, and returns its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return runOn(&target{}, args, stdin, stdout, stderr)
}

// runOn does the same as run, on the caller's target.
func runOn(t *target, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(t)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	for line := range strings.Lines("bpfctl: " + explain(err)) {
		fmt.Fprintln(stderr, human.Printable(strings.TrimSuffix(line, "\n")))
	}
	var u usageError
	if errors.As(err, &u) {
		return exitUsage
	}
	return exitFail
}

// usageError is an error of the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func newRoot(t *target) *cobra.Command {
	root := &cobra.Command{
		Use:   "bpfctl",
		Short: "Capture and send packets through FreeBSD's bpf(4), and manage it",
		Long: `Bpfctl captures packets through FreeBSD's bpf(4). Where the kernel allows
zero-copy mode, bpfctl reads packets directly from two buffers that it shares
with the kernel, so a busy capture makes no system calls. Bpfctl also allows or
forbids zero-copy mode, sends packets, and shows which programs listen.

With --model SCENARIO a command uses a model of the kernel instead. That works
on any system. The scenarios are:
` + scenario.List() + `
Exit codes: 0 done; 1 failed, with the reason on standard error; 2 wrong usage.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("no command %q: see bpfctl --help", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w: see %s --help", plainFlagError(err), c.CommandPath())
	})
	root.Version = version.Build()
	root.SetVersionTemplate("{{.Name}} version {{.Version}} on " + system() + "\n")
	root.PersistentFlags().StringVar(&t.scenario, "model", "", "use a model of the kernel: `SCENARIO`")
	root.RegisterFlagCompletionFunc("model",
		cobra.FixedCompletions(scenario.Names(), cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(newCapture(t), newZeroCopy(t), newStats(t), newExporter(t), newInfo(t), newSend(t),
		newFilter(), newMan(), newAfter())
	return root
}

// wanted says what values the flags of a type take.
var wanted = map[string]string{
	"uint64": "a whole number that is not negative", "int": "a whole number", "float64": "a number",
	"duration": "a time such as 500ms, 90s or 1h30m",
}

// plainFlagError says in plain words what is wrong with the value of a flag.
func plainFlagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	f := bad.GetFlag()
	want, ok := wanted[f.Value.Type()]
	if !ok {
		return err // the type of the flag is this program's, and so is the error
	}
	if f.Name == "count" {
		want = "at least 1"
	}
	name, value := "--"+f.Name, bad.GetValue()
	if f.Shorthand != "" {
		name = "-" + f.Shorthand
	}
	argument, _ := pflag.UnquoteUsage(f) // as the help calls it
	return fmt.Errorf("%s %s: %s must be %s", name, value, argument, want)
}

// system names the system that the program runs on, and its processor.
func system() string {
	if release, err := sysctl.Host().String("kern.osrelease"); err == nil {
		return "FreeBSD " + release + ", " + runtime.GOARCH
	}
	return runtime.GOOS + ", " + runtime.GOARCH
}

// noArgs refuses arguments behind the flags.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q: see %s --help", args[0], c.CommandPath())
	}
	return nil
}
