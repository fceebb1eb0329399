package main

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/sink"
)

// fileFormats are the values of --format.
var fileFormats = []string{sink.Pcapng, sink.Pcap, sink.PcapNano}

// formatFlags say what capture writes.
type formatFlags struct{ format, comment string }

func (f *formatFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.Var(once(&f.format), "format",
		"the `FORMAT` of the file: pcapng, pcap (microseconds) or pcap-ns\n"+
			"(nanoseconds); without it, the name of the file decides")
	fl.Var(once(&f.comment), "comment", "store `TEXT` as a comment of the file (pcapng)")
	c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(
		fileFormats, cobra.ShellCompDirectiveNoFileComp))
	c.RegisterFlagCompletionFunc("comment", cobra.NoFileCompletions)
}

// sayOnce returns a function that says each note once, however many files are written.
func sayOnce(p *capture.Pipeline) func(note string) {
	said := map[string]bool{}
	return func(note string) {
		if !said[note] && p.Say != nil {
			said[note] = true
			p.Say(note)
		}
	}
}

// longestComment is the number of bytes that pcapng has room for.
const longestComment = math.MaxUint16

// spec returns what is to be written to a file, which is empty for the list of packets.
func (f *formatFlags) spec(c *cobra.Command, file string) (sink.Spec, error) {
	for _, flag := range []string{"format", "comment"} {
		if file == "" && c.Flags().Changed(flag) {
			return sink.Spec{}, usagef("--%s is for a file: give -w FILE", flag)
		}
	}
	if file == "" {
		return sink.Spec{Format: sink.Text}, nil
	}
	if c.Flags().Changed("format") && !slices.Contains(fileFormats, f.format) {
		return sink.Spec{}, usagef("--format: %q is not one of %s", f.format,
			strings.Join(fileFormats, ", "))
	}
	s, err := sink.SpecOf(file, f.format)
	switch {
	case err != nil:
		return s, usagef("-w %w", err)
	case f.comment == "":
	case s.Format != sink.Pcapng:
		return s, usagef("--comment: %s has no place for a comment: write pcapng", s.Format)
	case len(f.comment) > longestComment:
		return s, usagef("--comment: the text has %d bytes, and pcapng has room for %d",
			len(f.comment), longestComment)
	case !utf8.ValidString(f.comment):
		return s, usagef("--comment: the text is not UTF-8, and pcapng has only that")
	}
	s.Comment = f.comment
	return s, nil
}
