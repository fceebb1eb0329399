package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/filter"
	"github.com/zbuf-go/zbuf/internal/expression"
)

// expressionFlags has the flag that names a file with an expression.
type expressionFlags struct{ file string }

func (f *expressionFlags) add(fl *pflag.FlagSet) {
	fl.VarP(once(&f.file), "expression-file", "F",
		"read the expression from `FILE`; from # to the end of a line\nis a comment there")
}

// expression returns the arguments joined by spaces, or the contents of the file. It returns an
// error unless the expression is well-formed.
func (f *expressionFlags) expression(args []string) (text string, err error) {
	text = strings.TrimSpace(strings.Join(args, " "))
	if f.file != "" {
		if text != "" {
			return "", usagef("give the expression as arguments or with -F, not both")
		}
		if text, err = expression.Read(f.file); err != nil {
			return "", usagef("-F: %w", err)
		}
	}
	if _, err := filter.Parse(text); err != nil {
		return "", usageError{err}
	}
	return text, nil
}

func isExpressionError(err error) bool {
	var e *filter.Error
	return errors.As(err, &e)
}

// filterFlags has the flags of filter.
type filterFlags struct {
	form     int
	linkType string
	read     string
	snapLen  int
	netmask  string
	plain    bool
	expressionFlags
}

func newFilter() *cobra.Command {
	var f filterFlags
	c := &cobra.Command{
		Use:   "filter [-d|-dd|-ddd] [--link-type TYPE] [-r FILE] EXPRESSION",
		Short: "Show the program of an expression, and why a packet matches",
		Long: `Filter compiles an expression of pcap-filter(7) and prints the program that the
kernel would run: in words (-d, the default), as C (-dd), or as numbers (-ddd)
for "bpfctl capture --filter".

With -r, filter says for each packet of a pcap or pcapng file whether the
expression matches it, and why: it prints every instruction that the packet
passed, and the registers A and X after it. The link type is that of the file.
- is standard input.

An expression is a question about the headers of a link type. --link-type takes
the names of bpf(4), such as EN10MB, NULL, RAW, PPP, PFLOG, ENC or
IEEE802_11_RADIO, or a number.`,
		Example: `  bpfctl filter 'tcp port 80 and not host 10.0.0.1'
  bpfctl filter -ddd --link-type NULL 'icmp' > icmp.bpf
  bpfctl filter -r in.pcap 'udp port 53'
  bpfctl filter --netmask 255.255.255.0 'ip broadcast'`,
		RunE: func(c *cobra.Command, args []string) error { return runFilter(c, &f, args) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.CountVarP(&f.form, "dump", "d", "print the program in words; -dd as C, -ddd as numbers")
	fl.StringVarP(&f.linkType, "link-type", "y", "EN10MB", "compile for the link type `TYPE`")
	fl.VarP(once(&f.read), "read", "r", "say which packets of `FILE` match, and why")
	f.expressionFlags.add(fl)
	fl.IntVar(&f.snapLen, "snaplen", 262144, "the program returns `N` for a packet that matches")
	fl.Var(once(&f.netmask), "netmask", "the interface's IPv4 netmask, for ip broadcast (`MASK`)")
	fl.BoolVarP(&f.plain, "no-optimize", "O", false, "print the program as the expression spells it")
	return c
}

func (f *filterFlags) options(c *cobra.Command) (opt filter.Options, err error) {
	switch {
	case f.form > 3:
		return opt, usagef("-d: give it once, twice or three times")
	case f.read != "" && (f.form > 0 || c.Flags().Changed("link-type")):
		return opt, usagef("-r has the link type of the file: leave -d and --link-type out")
	case f.snapLen <= 0:
		return opt, usagef("--snaplen %d: must be at least 1", f.snapLen)
	case int64(f.snapLen) > math.MaxUint32:
		return opt, usagef("--snaplen %d: must be at most %d", f.snapLen, uint32(math.MaxUint32))
	}
	dlt, err := parseLinkType(f.linkType)
	if err != nil {
		return opt, err
	}
	opt = filter.Options{LinkType: dlt, SnapLen: uint32(f.snapLen), NoOptimize: f.plain}
	if f.netmask != "" {
		if opt.Netmask, err = expression.ParseNetmask(f.netmask); err != nil {
			return opt, usagef("--netmask: %w", err)
		}
	}
	return opt, nil
}

// parseLinkType returns the link type that the value of --link-type names.
func parseLinkType(text string) (dlt uint32, err error) {
	if n, err := strconv.ParseUint(text, 0, 16); err == nil {
		return uint32(n), nil
	}
	dlt, ok := zbuf.DLTByName(text)
	if !ok {
		return 0, usagef("--link-type: %q is neither a number nor a name of bpf(4), such as EN10MB "+
			"or NULL", text)
	}
	return dlt, nil
}

func runFilter(c *cobra.Command, f *filterFlags, args []string) error {
	opt, err := f.options(c)
	if err != nil {
		return err
	}
	text, err := f.expression(args)
	if err != nil {
		return err
	}
	if f.read != "" {
		return f.why(c.OutOrStdout(), c.InOrStdin(), text, opt)
	}
	prog, err := filter.Compile(text, opt)
	if err != nil {
		return usageError{err}
	}
	return expression.Print(c.OutOrStdout(), prog, expression.Form(max(f.form, 1)))
}

func (f *filterFlags) why(w io.Writer, stdin io.Reader, text string, opt filter.Options) error {
	in := stdin
	if f.read != "-" {
		file, err := os.Open(f.read)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	if err := expression.Why(w, in, text, opt); isExpressionError(err) {
		return usageError{err}
	} else if err != nil {
		return fmt.Errorf("%s: %w", inputName(f.read), err)
	}
	return nil
}
