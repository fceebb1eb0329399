package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/capture/source"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/sysctl"
)

func newInfo(t *target) *cobra.Command {
	var iface string
	var asJSON bool
	c := &cobra.Command{
		Use:   "info [-i IFACE]",
		Short: "Show what this kernel's bpf can do, and what would stop a capture",
		Long: `Info shows what this kernel's bpf can do. It does not guess from the release: it
tries each feature on a descriptor of its own, and changes nothing for other
programs. Info also shows the link types of the interfaces, the limits of
buffers and the sysctls. It says what would stop a capture, and what to do
about it.

Most of this needs permission to open /dev/bpf. Where info can't find something
out, it says so.`,
		Example: `  bpfctl info
  bpfctl info -i em0 --json
  bpfctl info --model refused`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := t.machine()
			if err != nil {
				return err
			}
			defer m.Stop()
			i, err := readInfo(m, iface)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), i)
			}
			return i.print(c.OutOrStdout())
		},
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.VarP(once(&iface), "interface", "i", "only `IFACE` (default all)")
	fl.BoolVar(&asJSON, "json", false, "as JSON")
	c.RegisterFlagCompletionFunc("interface", t.completeInterface)
	return c
}

// info has everything that the command shows.
type info struct {
	Kernel   string     `json:"kernel"`
	Version  int32      `json:"osreldate"`
	Machine  string     `json:"machine"`
	Features []feature  `json:"features"`
	Limits   limits     `json:"limits"`
	Links    []link     `json:"interfaces"`
	Sysctls  []variable `json:"sysctls"`
	Advice   []string   `json:"advice"`
}

// feature is the result of a probe.
type feature struct {
	Name   string `json:"name"`
	About  string `json:"about"`
	Has    *bool  `json:"has"` // nil: it could not be tried
	Reason string `json:"reason,omitempty"`
}

// limits are in bytes, unless their comment has another unit. 0 means that the limit is not known.
type limits struct {
	Buffer       int32  `json:"buffer"`        // unless a program asks for another
	MaxBuffer    int32  `json:"max_buffer"`    // in buffered mode
	MaxZeroCopy  int    `json:"max_zero_copy"` // each of two
	MaxFilter    int32  `json:"max_filter"`    // instructions
	FilterSyntax string `json:"filter_language,omitempty"`
}

type link struct {
	Name      string     `json:"name"`
	Up        bool       `json:"up"`
	MTU       int        `json:"mtu"`
	LinkTypes []linkType `json:"link_types"`
	Reason    string     `json:"reason,omitempty"`
}

type linkType struct {
	DLT  uint32 `json:"dlt"`
	Name string `json:"name"`
}

type variable struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
	About string `json:"about"`
}

// A probe tries a feature on a fresh descriptor. A kernel that lacks the feature answers EINVAL,
// unless missing has another errno.
type probe struct {
	name, about string
	try         func(d *zbuf.Device) error
}

var probes = []probe{
	{"zero-copy", "packets are read from buffers shared with the kernel", func(d *zbuf.Device) error {
		return d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF)
	}},
	{"nanoseconds", "time stamps in nanoseconds", func(d *zbuf.Device) error {
		return d.SetTimestampType(zbuf.BPF_T_NANOTIME)
	}},
	{"monotonic", "time stamps since boot", func(d *zbuf.Device) error {
		return d.SetTimestampType(zbuf.BPF_T_NANOTIME | zbuf.BPF_T_MONOTONIC)
	}},
	{"filter swap", "a new filter does not discard captured packets", func(d *zbuf.Device) error {
		return d.SetFilterNoReset(nil)
	}},
	{"write filter", "a filter for packets written", func(d *zbuf.Device) error {
		return d.SetWriteFilter(nil)
	}},
	{"direction", "received or sent packets only", func(d *zbuf.Device) error {
		return d.SetDirection(zbuf.BPF_D_IN)
	}},
	{"lock", "a descriptor can be locked against changes", func(d *zbuf.Device) error {
		return d.Lock()
	}},
	{"vlan priority", "802.1p priority of packets written (since 14)", func(d *zbuf.Device) error {
		return d.SetVLANPCP(0)
	}},
	{"interface list", "the kernel lists the interfaces of bpf (since 16)",
		func(d *zbuf.Device) error {
			_, err := d.InterfaceList()
			return err
		}},
}

func readInfo(m *machine.Machine, iface string) (i info, err error) {
	if i.Kernel, err = release(m); err != nil {
		return i, err
	}
	t := m.Sysctl
	i.Version, _ = t.Int32("kern.osreldate")
	i.Machine, _ = t.String("hw.machine_arch")
	i.Advice = []string{}
	advise := func(format string, args ...any) {
		i.Advice = append(i.Advice, fmt.Sprintf(format, args...))
	}

	_, opens := try(m, func(*zbuf.Device) error { return nil })
	if opens != nil {
		advise("No capture is possible: %s.", explain(opens))
	}
	for _, p := range probes {
		f := feature{Name: p.name, About: p.about}
		has, err := try(m, p.try)
		if opens == nil {
			f.Has = &has
			if err != nil && p.name == "zero-copy" {
				f.Reason = source.Refusal(err)
			}
		}
		i.Features = append(i.Features, f)
	}
	for _, f := range []struct{ feature, about, sysctl string }{
		{"capsicum", "a capture can give up its rights", "kern.features.security_capabilities"},
		{"filter JIT", "filters are compiled to machine code (options BPF_JITTER)", "net.bpf_jitter.enable"},
	} {
		n, err := t.Int32(f.sysctl)
		has := err == nil && n != 0
		i.Features = append(i.Features, feature{Name: f.feature, About: f.about, Has: &has})
	}

	b := t.BPF()
	i.Limits.Buffer, _ = b.BufSize()
	i.Limits.MaxBuffer, _ = b.MaxBufSize()
	i.Limits.MaxFilter, _ = b.MaxInsns()
	i.Limits.MaxZeroCopy, _ = maxLentBuffer(m)
	try(m, func(d *zbuf.Device) error {
		v, err := d.FilterVersion()
		if err == nil {
			i.Limits.FilterSyntax = fmt.Sprintf("%d.%d", v.Major, v.Minor)
		}
		return err
	})
	i.Sysctls = bpfSysctls(t)
	if i.Links, err = listLinks(m, iface, opens == nil); err != nil {
		return i, err
	}
	adviseOn(m, &i, advise)
	return i, nil
}

// release returns the kernel's name and release.
func release(m *machine.Machine) (string, error) {
	system, err := m.Sysctl.String("kern.ostype")
	if err != nil {
		return "", err
	}
	release, err := m.Sysctl.String("kern.osrelease")
	return system + " " + release, err
}

// try reports whether f succeeds on a fresh descriptor.
func try(m *machine.Machine, f func(*zbuf.Device) error) (bool, error) {
	d, err := zbuf.OpenOn(m.BPF)
	if err != nil {
		return false, err
	}
	defer d.Close()
	err = f(d)
	return err == nil, err
}

// bpfSysctls returns the integer sysctls below net.bpf and net.bpf_jitter.
func bpfSysctls(t sysctl.Tree) []variable {
	list := []variable{}
	for _, root := range []string{"net.bpf", "net.bpf_jitter"} {
		for name, err := range t.Walk(root) {
			if err != nil {
				break
			}
			if n, err := t.Int64(name); err == nil {
				about, _ := t.Describe(name)
				list = append(list, variable{name, n, about})
			}
		}
	}
	return list
}

// listLinks returns the interfaces and their link types.
func listLinks(m *machine.Machine, iface string, ask bool) ([]link, error) {
	all, err := m.Interfaces()
	if err != nil {
		return nil, err
	}
	known := func(n machine.Interface) bool { return n.Name == iface }
	if iface != "" {
		if !slices.ContainsFunc(all, known) {
			if err := m.Attachable(iface); err != nil {
				return nil, err
			}
			// bpf knows more than network interfaces
			all = append(all, machine.Interface{Name: iface, Up: true})
		}
		all = slices.DeleteFunc(all, func(n machine.Interface) bool { return n.Name != iface })
	}
	list := []link{}
	for _, n := range all {
		l := link{Name: n.Name, Up: n.Up, MTU: n.MTU, LinkTypes: []linkType{}}
		if !ask {
			list = append(list, l)
			continue
		}
		_, err := try(m, func(d *zbuf.Device) error {
			if err := d.SetInterface(n.Name); err != nil {
				return err
			}
			types, err := d.LinkTypes()
			for _, dlt := range types {
				l.LinkTypes = append(l.LinkTypes, linkType{dlt, zbuf.DLTName(dlt)})
			}
			return err
		})
		if err != nil {
			l.Reason = explain(err)
		}
		list = append(list, l)
	}
	return list, nil
}

// adviseOn gives advice about settings that would stop a capture or surprise its user.
func adviseOn(m *machine.Machine, i *info, advise func(string, ...any)) {
	t := m.Sysctl
	if on, err := t.BPF().ZeroCopyEnabled(); err == nil && !on {
		advise("Captures use read(2) because zero-copy is forbidden: `bpfctl zerocopy on` as root " +
			"allows it.")
	}
	for _, f := range i.Features {
		if on, err := t.BPF().ZeroCopyEnabled(); f.Name == "zero-copy" && f.Has != nil && !*f.Has &&
			err == nil && on {
			advise("Captures use read(2): the kernel refuses zero-copy although it is allowed: %s.",
				f.Reason)
		}
	}
	if i.Limits.MaxZeroCopy == 0 && slices.ContainsFunc(i.Features, func(f feature) bool {
		return f.Name == "zero-copy" && f.Has != nil && *f.Has
	}) {
		advise("Captures use read(2): this is a 32-bit program on a 64-bit kernel, which can't " +
			"lend memory.")
	}
	if on, err := t.BPF().OptimizeWriters(); err == nil && on {
		advise("net.bpf.optimize_writers is 1: programs that never set a filter receive nothing. " +
			"capture does set one.")
	}
	if i.Limits.MaxBuffer > 0 && i.Limits.MaxBuffer < 64<<10 {
		advise("net.bpf.maxbufsize is %d: buffers that short drop packets in bursts in buffered mode. "+
			"524288 is usual.", i.Limits.MaxBuffer)
	}
	if n, err := t.Int32("security.jail.jailed"); err == nil && n == 1 {
		advise("This is a jail: /dev/bpf must be unhidden in its devfs rules, and statistics need a " +
			"network stack of its own (vnet).")
	}
	if _, err := t.BPF().Stats(); errors.Is(err, fs.ErrPermission) {
		advise("The listeners can't be shown: %s.", explain(err))
	}
	for _, l := range i.Links {
		if !l.Up {
			advise("%s is down: nothing is received, and writing fails. `ifconfig %s up` as root.", l.Name,
				l.Name)
		}
		if l.Reason != "" {
			advise("%s can't be captured on: %s.", l.Name, l.Reason)
		}
	}
	if len(i.Links) == 0 {
		advise("There is no interface to capture on.")
	}
}

func (i info) print(w io.Writer) error {
	l := lookOf(w)
	var b strings.Builder
	head := func(s string) { fmt.Fprintf(&b, "%s\n", l.paint(s, text.Bold)) }
	fmt.Fprintf(&b, "%s %s (%d), %s\n", l.paint("Kernel", text.Bold), human.Printable(i.Kernel),
		i.Version, i.Machine)

	head("What it can do")
	t := l.columns()
	for _, f := range i.Features {
		has := "?"
		switch {
		case f.Has != nil && *f.Has:
			has = l.paint("yes", text.FgGreen)
		case f.Has != nil:
			has = l.paint("no", text.FgYellow)
		}
		about := f.About
		if f.Reason != "" {
			about += ": " + f.Reason
		}
		t.AppendRow([]any{has, f.Name, about})
	}
	b.WriteString(indent(t.Render()))

	head("Limits")
	size := func(n int) string {
		if n == 0 {
			return "not known"
		}
		return human.Size(n)
	}
	t = l.columns()
	t.AppendRow([]any{"each of two zero-copy buffers", size(i.Limits.MaxZeroCopy)})
	t.AppendRow([]any{"each of two buffers in buffered mode", size(int(i.Limits.MaxBuffer))})
	t.AppendRow([]any{"the same, unless a program asks", size(int(i.Limits.Buffer))})
	t.AppendRow([]any{"filter program", fmt.Sprintf("%d instructions", i.Limits.MaxFilter)})
	if i.Limits.FilterSyntax != "" {
		t.AppendRow([]any{"filter language", "version " + i.Limits.FilterSyntax})
	}
	b.WriteString(indent(t.Render()))

	head("Interfaces")
	t = l.columns()
	for _, n := range i.Links {
		var types []string
		for _, dlt := range n.LinkTypes {
			types = append(types, fmt.Sprintf("%s (%d)", dlt.Name, dlt.DLT))
		}
		what := strings.Join(types, ", ")
		if what == "" {
			what = "?"
		}
		if n.Reason != "" {
			what = n.Reason
		}
		t.AppendRow([]any{human.Printable(n.Name), map[bool]string{true: "up", false: "down"}[n.Up],
			fmt.Sprintf("mtu %d", n.MTU), what})
	}
	b.WriteString(indent(t.Render()))

	head("Sysctls")
	t = l.columns()
	right(t, 2)
	for _, v := range i.Sysctls {
		t.AppendRow([]any{v.Name, v.Value, human.Printable(v.About)})
	}
	b.WriteString(indent(t.Render()))

	head("Advice")
	if len(i.Advice) == 0 {
		b.WriteString("  Nothing stands in the way of a capture.\n")
	}
	for _, a := range i.Advice {
		fmt.Fprintf(&b, "  %s\n", human.Printable(a))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
