package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/sysctl"
)

const zerocopyEnable = "net.bpf.zerocopy_enable"

// zeroCopyFlags has the flags of zerocopy.
type zeroCopyFlags struct {
	persist, json bool
	file          string
}

func newZeroCopy(t *target) *cobra.Command {
	var f zeroCopyFlags
	c := &cobra.Command{
		Use:   "zerocopy [status | on | off] [--persist]",
		Short: "Allow zero-copy mode, or forbid it",
		Long: `Zerocopy shows whether programs may capture in zero-copy mode, which programs
do, and how much memory that wires. "on" allows it and "off" forbids it. Both
set the sysctl ` + zerocopyEnable + `. A capture that runs goes on as it is.

With --persist, on and off also set it in sysctl.conf(5), which is read when the
machine boots. Zerocopy replaces the file as a whole or not at all. The file
keeps its comments, order, owner and permissions, but not ACLs or file flags.

on and off need root. status needs root to show which programs use zero-copy
mode, and permission to open /dev/bpf to show the largest buffer. Where status
can't find something out, it says so.`,
		Example: `  bpfctl zerocopy
  bpfctl zerocopy on --persist
  bpfctl zerocopy status --json
  bpfctl zerocopy --model listeners`,
		ValidArgs: []string{"status", "on", "off"},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("unexpected argument %q: see %s --help", args[1], c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			verb := "status"
			if len(args) > 0 {
				verb = args[0]
			}
			return runZeroCopy(c, t, verb, &f)
		},
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.BoolVar(&f.persist, "persist", false, "also set it in sysctl.conf(5), for later boots")
	fl.Var(once(&f.file), "file", "the sysctl.conf(5) to use, `FILE` (default /etc/sysctl.conf)")
	fl.BoolVar(&f.json, "json", false, "status: as JSON")
	return c
}

func runZeroCopy(c *cobra.Command, t *target, verb string, f *zeroCopyFlags) error {
	switch {
	case verb != "status" && verb != "on" && verb != "off":
		return usagef("zerocopy %s: status, on or off?", verb)
	case verb == "status" && f.persist:
		return usagef("--persist: goes with on or off")
	case verb != "status" && f.json:
		return usagef("--json: goes with status")
	}
	m, err := t.machine()
	if err != nil {
		return err
	}
	defer m.Stop()
	if f.file != "" {
		m.Conf = f.file
	}
	if f.persist && m.Conf == "" {
		return usagef("--persist: the model has no /etc/sysctl.conf: name a file with --file")
	}
	if verb == "status" {
		s, err := readZeroCopyStatus(m)
		if err != nil {
			return err
		}
		if f.json {
			return writeJSON(c.OutOrStdout(), s)
		}
		return s.print(c.OutOrStdout())
	}
	return setZeroCopy(m, c, verb == "on", f.persist)
}

func setZeroCopy(m *machine.Machine, c *cobra.Command, on, toStay bool) error {
	was, err := m.Sysctl.BPF().ZeroCopyEnabled()
	if err != nil {
		return err
	}
	if err := m.Sysctl.BPF().SetZeroCopyEnabled(on); err != nil {
		return err
	}
	out := c.OutOrStdout()
	still := map[bool]string{true: "still ", false: ""}[was == on]
	if on {
		fmt.Fprintf(out, "Zero-copy is %sallowed (%s=1).\n", still, zerocopyEnable)
	} else {
		fmt.Fprintf(out, "Zero-copy is %sforbidden (%s=0). A running capture goes on as it is.\n", still,
			zerocopyEnable)
	}
	if toStay {
		changed, err := persist(m.Conf, zerocopyEnable, map[bool]string{true: "1", false: "0"}[on])
		if err != nil {
			return fmt.Errorf("zero-copy is set until the next boot only: %w", err)
		}
		if changed {
			fmt.Fprintf(out, "%s sets it for later boots.\n", m.Conf)
		} else {
			fmt.Fprintf(out, "%s sets it already.\n", m.Conf)
		}
		if v, ok := readConf(m.Conf + ".local"); ok {
			fmt.Fprintf(out, "But %s.local is read after it, and sets it to %s.\n", m.Conf,
				human.Printable(v))
		}
	} else if v, ok := readConf(m.Conf); ok && (v != "0") != on {
		fmt.Fprintf(out, "This holds until the next boot: %s sets it to %s.\n", m.Conf,
			human.Printable(v))
	} else if !ok && on {
		fmt.Fprintln(out, "This holds until the next boot: --persist makes it permanent.")
	}
	if on {
		warning := lookOf(c.ErrOrStderr()).paint("Warning:", text.Bold, text.FgYellow)
		fmt.Fprint(c.ErrOrStderr(), warning, " any program that can open /dev/bpf can now "+
			`panic this machine:
the kernel follows a null pointer when a descriptor in zero-copy mode is flushed,
or given a filter, before it has buffers. bpfctl never does that, but other programs can.
Root can open /dev/bpf, and so can the users that its mode allows: `, bpfOwner(), `.
`)
	}
	return nil
}

// readConf returns the value that a sysctl.conf(5) sets for zero-copy. ok is true if it sets one.
// readConf treats a file that it can't read as an empty one.
func readConf(file string) (string, bool) {
	if file == "" {
		return "", false
	}
	conf, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	return confValue(conf, zerocopyEnable)
}

// zeroCopyStatus has everything that zerocopy status shows. A field called Unknown has the reason
// why something is not known.
type zeroCopyStatus struct {
	Time             time.Time      `json:"time"`
	Allowed          bool           `json:"allowed"`
	AtBoot           *string        `json:"at_boot"`    // the value that sysctl.conf(5) sets
	MaxBuffer        int            `json:"max_buffer"` // the largest that buffer can be
	MaxBufferUnknown string         `json:"max_buffer_unknown,omitempty"`
	Users            []zeroCopyUser `json:"users"`
	UsersUnknown     string         `json:"users_unknown,omitempty"`
	Wired            int            `json:"wired"` // bytes

	conf string
	page int
}

// zeroCopyUser is a listener in zero-copy mode.
type zeroCopyUser struct {
	PID       int    `json:"pid"`
	Program   string `json:"program"`
	Interface string `json:"interface"`
	Buffer    int    `json:"buffer"` // bytes for packets in each of the two, without header
	Wired     int    `json:"wired"`  // bytes of memory
}

func readZeroCopyStatus(m *machine.Machine) (s zeroCopyStatus, err error) {
	if s.Allowed, err = m.Sysctl.BPF().ZeroCopyEnabled(); err != nil {
		return s, err
	}
	if s.page, err = m.PageSize(); err != nil {
		return s, err
	}
	for _, file := range []string{m.Conf + ".local", m.Conf} { // the first is read last
		if v, ok := readConf(file); ok && m.Conf != "" {
			s.AtBoot, s.conf = &v, file
			break
		}
	}
	s.Time = time.Now().UTC()
	most, err := maxLentBuffer(m)
	s.MaxBuffer = max(0, most-zbuf.SizeofZbufHeader)
	if err != nil {
		s.MaxBufferUnknown = explain(err)
		if errors.Is(err, zbuf.ErrZeroCopyDisabled) {
			s.MaxBufferUnknown = "the kernel tells it only while zero-copy is allowed"
		}
	}
	all, err := m.Listeners("")
	if err != nil {
		s.UsersUnknown = explain(err)
	}
	s.Users = []zeroCopyUser{}
	for _, l := range all {
		if l.ZeroCopy() {
			u := zeroCopyUser{l.PID, l.Process, l.Interface, l.BufferSize,
				wiredBy(l, s.page)}
			s.Users = append(s.Users, u)
			s.Wired += u.Wired
		}
	}
	return s, nil
}

// wiredBy returns the number of bytes of memory that a listener in zero-copy mode has wired: two
// buffers in whole pages.
func wiredBy(l sysctl.Listener, page int) int {
	pages := (l.BufferSize + zbuf.SizeofZbufHeader + page - 1) / page
	return 2 * pages * page
}

// maxLentBuffer asks the kernel for the greatest length of each of two lent buffers, with header.
func maxLentBuffer(m *machine.Machine) (int, error) {
	d, err := zbuf.OpenOn(m.BPF)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	if err := d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF); err != nil {
		return 0, err
	}
	return d.MaxBufferSize()
}

func (s zeroCopyStatus) print(w io.Writer) error {
	var b strings.Builder
	look := lookOf(w)
	if s.Allowed {
		fmt.Fprintf(&b, "Zero-copy is %s: programs that can open /dev/bpf may capture in zero-copy "+
			"mode (%s=1).\n",
			look.paint("allowed", text.FgGreen), zerocopyEnable)
	} else {
		fmt.Fprintf(&b, "Zero-copy is %s (%s=0): captures use read(2). `bpfctl zerocopy on` allows it.\n",
			look.paint("forbidden", text.FgYellow), zerocopyEnable)
	}
	switch {
	case s.AtBoot != nil:
		fmt.Fprintf(&b, "At boot it is set to %s (%s).\n", human.Printable(*s.AtBoot), s.conf)
	case s.Allowed:
		fmt.Fprintln(&b, "The next boot forbids it again: `bpfctl zerocopy on --persist` makes it stay.")
	}
	if s.MaxBufferUnknown != "" {
		fmt.Fprintf(&b, "Each descriptor can lend two buffers; their largest size is not known: %s.\n",
			s.MaxBufferUnknown)
	} else {
		fmt.Fprintf(&b, "Each descriptor can lend two buffers of at most %s.\n",
			human.Size(s.MaxBuffer+zbuf.SizeofZbufHeader))
	}
	switch {
	case s.UsersUnknown != "":
		fmt.Fprintf(&b, "Which programs use it is not known: %s.\n", s.UsersUnknown)
	case len(s.Users) == 0:
		fmt.Fprintln(&b, "No program uses it now, and it wires no memory.")
	default:
		fmt.Fprintf(&b, "In use by %s, for which %s of memory is wired:\n",
			human.Plural(len(s.Users), "listener"), human.Size(s.Wired))
		t := look.columns("PID", "PROGRAM", "INTERFACE", "BUFFERS", "WIRED")
		right(t, 1)
		for _, u := range s.Users {
			t.AppendRow([]any{u.PID, orQuestion(u.Program), human.Printable(u.Interface),
				"2 of " + human.Size(u.Buffer+zbuf.SizeofZbufHeader), human.Size(u.Wired)})
		}
		b.WriteString(indent(t.Render()))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// orQuestion returns the name of a program in the form that is shown. The program can have gone,
// and its name can have any bytes.
func orQuestion(s string) string {
	if s == "" {
		return "?"
	}
	return human.Printable(s)
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(s, "\n", "\n  ") + "\n"
}
