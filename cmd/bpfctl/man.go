package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newMan returns the command that writes the manual. Packagers call it.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:   "man FOLDER",
		Short: "Write the manual pages of all commands into a folder",
		Long: `Man writes a page of section 8 for bpfctl and for each of its commands, such as
bpfctl-capture.8. It makes the folder if there is none. To read a page:

  bpfctl man /tmp/bpfctl && man /tmp/bpfctl/bpfctl-capture.8`,
		Example: "  bpfctl man /usr/local/share/man/man8",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("which folder? see %s --help", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			for _, page := range append(manualCommands(c.Root()), c.Root()) {
				name := filepath.Join(args[0], pageName(page)+".8")
				if err := os.WriteFile(name, []byte(manual(page)), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// manualCommands are the commands that have a page. Those that cobra makes have none, and neither
// has the helper of capture.
func manualCommands(root *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(root.Commands()), func(c *cobra.Command) bool {
		return c.Name() == "completion" || c.Name() == "help" || c.Name() == afterCommand
	})
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// item is a file, or a signal, and what it is for.
type item struct{ name, about string }

var (
	devices = []item{{"/dev/bpf", "the device that all descriptors are opened on"}}
	ends    = item{"SIGINT, SIGTERM, SIGHUP", "end it"}
	cut     = item{"SIGINT, SIGTERM, SIGHUP", "end it; the exit code is 1 if packets are left to send"}
	sysctls = []item{
		{"/etc/sysctl.conf", "what --persist changes, if --file does not name another file"},
		{"/etc/sysctl.conf.local", "read after it when the machine boots"},
	}
)

// manualExtras has what a page says and the help does not.
var manualExtras = map[string]struct {
	files, signals []item
	see            []string
}{
	"bpfctl": {files: append(slices.Clone(devices), sysctls[0]), see: []string{"devfs.rules(5)"}},
	"bpfctl capture": {files: devices, signals: []item{
		{"SIGINT, SIGTERM", "end the capture; a second one ends the process at once"},
		{"SIGHUP", "ends the current file and begins the next one, if capture rotates files, and ends " +
			"the capture otherwise"},
		{"SIGINFO (Ctrl-T), SIGUSR1", "print how far the capture is"},
	}, see: []string{"devfs.rules(5)"}},
	"bpfctl zerocopy": {files: append(slices.Clone(devices), sysctls...),
		see: []string{"sysctl.conf(5)", "sysctl(8)"}},
	"bpfctl stats":    {signals: []item{{ends.name, "end --watch"}}, see: []string{"netstat(1)"}},
	"bpfctl exporter": {signals: []item{ends}, see: []string{"netstat(1)"}},
	"bpfctl info":     {files: devices, see: []string{"sysctl(8)"}},
	"bpfctl send":     {files: devices, signals: []item{cut}},
}

// manual returns the page of a command, in the macros of man(7).
func manual(c *cobra.Command) string {
	var b strings.Builder
	name := pageName(c)
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", title) }
	fmt.Fprintf(&b, ".TH %s 8 \"\" zbuf \"System Manager's Manual\"\n", roff(strings.ToUpper(name)))
	section("NAME")
	short := []rune(c.Short)
	short[0] = unicode.ToLower(short[0])
	fmt.Fprintf(&b, "%s \\- %s\n", roff(name), roff(string(short)))
	section("SYNOPSIS")
	if c.HasParent() {
		fmt.Fprintf(&b, ".B %s\n", roff(c.UseLine()))
	} else {
		fmt.Fprintf(&b, ".B %s\n.I COMMAND\n[flags] [arguments]\n", roff(name))
	}
	section("DESCRIPTION")
	paragraphs(&b, c.Long)
	if !c.HasParent() {
		section("COMMANDS")
		for _, sub := range manualCommands(c) {
			tagged(&b, `\fB`+roff(sub.Name())+`\fR`, sub.Short+": see "+pageName(sub)+"(8).")
		}
	}
	section("OPTIONS")
	option := func(f *pflag.Flag) {
		if !f.Hidden {
			tagged(&b, optionName(f), optionAbout(f))
		}
	}
	c.NonInheritedFlags().VisitAll(option)
	c.InheritedFlags().VisitAll(option)
	extra := manualExtras[c.CommandPath()]
	items := func(title string, list []item) {
		if len(list) > 0 {
			section(title)
		}
		for _, i := range list {
			tagged(&b, roff(i.name), i.about+".")
		}
	}
	items("FILES", extra.files)
	items("SIGNALS", extra.signals)
	items("EXIT STATUS", []item{
		{"0", "done"}, {"1", "failed, or ended early; standard error has the reason"},
		{"2", "the command line is wrong, and nothing was done"},
	})
	if c.Example != "" {
		section("EXAMPLES")
		literal(&b, strings.Split(c.Example, "\n"))
	}
	section("SEE ALSO")
	see := append([]string{"bpf(4)", "tcpdump(1)", "pcap-filter(7)"}, extra.see...)
	for _, other := range append(manualCommands(c.Root()), c.Root()) {
		if other != c {
			see = append(see, pageName(other)+"(8)")
		}
	}
	slices.SortFunc(see, func(x, y string) int { // by section, then by name
		bySection := func(s string) string {
			page, section, _ := strings.Cut(s, "(")
			return section + page
		}
		return strings.Compare(bySection(x), bySection(y))
	})
	fmt.Fprintln(&b, roff(strings.Join(see, ", ")))
	return b.String()
}

// optionName returns the flag's two names and its argument.
func optionName(f *pflag.Flag) string {
	var b strings.Builder
	if f.Shorthand != "" {
		fmt.Fprintf(&b, `\fB%s\fR, `, roff("-"+f.Shorthand))
	}
	fmt.Fprintf(&b, `\fB%s\fR`, roff("--"+f.Name))
	if argument, _ := pflag.UnquoteUsage(f); argument != "" && f.NoOptDefVal == "" {
		fmt.Fprintf(&b, ` \fI%s\fR`, roff(strings.ToUpper(argument)))
	}
	return b.String()
}

// optionAbout returns what a flag does, and its default if that is a value that does something.
func optionAbout(f *pflag.Flag) string {
	_, usage := pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "0", "0s", "false", "[]":
	default:
		if !strings.Contains(usage, "(default") {
			usage += " (default " + f.DefValue + ")"
		}
	}
	return strings.ToUpper(usage[:1]) + usage[1:] + "."
}

// paragraphs writes a text of the help. Its indented lines keep their ends.
func paragraphs(b *strings.Builder, text string) {
	var kept []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "  ") {
			kept = append(kept, line)
			continue
		}
		literal(b, kept)
		kept = nil
		if strings.TrimSpace(line) == "" {
			b.WriteString(".PP\n")
			continue
		}
		fmt.Fprintln(b, roff(line))
	}
	literal(b, kept)
}

// literal writes lines as they are.
func literal(b *strings.Builder, lines []string) {
	if len(lines) == 0 {
		return
	}
	b.WriteString(".nf\n")
	for _, line := range lines {
		fmt.Fprintln(b, roff(line))
	}
	b.WriteString(".fi\n")
}

// tagged writes a term and what it means. The term is in roff already.
func tagged(b *strings.Builder, name, about string) {
	fmt.Fprintf(b, ".TP\n%s\n%s\n", name, roff(about))
}

// roff escapes a line: roff takes a dot or an apostrophe in front for a request, a backslash for an
// escape, and an ordinary hyphen for a place to break the line.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
