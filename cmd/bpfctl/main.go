// Bpfctl captures packets through bpf(4) of FreeBSD.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/scenario"
	"github.com/zbuf-go/zbuf/internal/version"
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
	var root *cobra.Command
	root = &cobra.Command{
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
		Example: `  bpfctl info
  bpfctl capture -i em0 'tcp port 443'
  bpfctl capture -i em0 -w cap/out.pcapng.zst --rotate-time 1h --keep-files 168
  bpfctl zerocopy on --persist
  bpfctl stats --watch 1s
  bpfctl capture --model lan -i em0`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noCommand(root, args[0])
			}
			return nil
		},
		PersistentPreRunE: checkOnce,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w: see %s --help", plainFlagError(c, err), c.CommandPath())
	})
	root.Version = version.Build()
	root.SetVersionTemplate("{{.Name}} version {{.Version}} on " + version.System() + "\n")
	root.PersistentFlags().Var(once(&t.scenario), "model", "use a model of the kernel: `SCENARIO`")
	root.RegisterFlagCompletionFunc("model",
		cobra.FixedCompletions(scenario.Names(), cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(newCapture(t), newZeroCopy(t), newStats(t), newExporter(t), newInfo(t), newSend(t),
		newFilter(), newMan(), newAfter())
	checkOthers(root)
	return root
}

// noArgs refuses arguments behind the flags.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q: see %s --help", args[0], c.CommandPath())
	}
	return nil
}

// noCommand is the error of a name that no command has.
func noCommand(root *cobra.Command, name string) error {
	root.SuggestionsMinimumDistance = 2
	if like := root.SuggestionsFor(name); len(like) > 0 {
		return usagef("no command %q, did you mean %s? see bpfctl --help", name,
			strings.Join(like, " or "))
	}
	return usagef("no command %q: see bpfctl --help", name)
}

// checkOthers makes the commands that cobra adds refuse wrong arguments as the others do.
func checkOthers(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				if len(args) == 0 {
					return nil
				}
				if about, _, err := root.Find(args); err != nil || about == root {
					return noCommand(root, args[0])
				}
				return nil
			}
		case "completion":
			const shells = "bash, zsh, fish or powershell"
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(_ *cobra.Command, args []string) error {
				if len(args) == 0 {
					return usagef("which shell? %s", shells)
				}
				return usagef("no completion for %q: %s", args[0], shells)
			}
			for _, shell := range c.Commands() {
				shell.Args = noArgs
			}
		}
	}
}
