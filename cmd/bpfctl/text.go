package main

import (
	"io"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/internal/capture/sink"
	"github.com/zbuf-go/zbuf/internal/decode"
)

// textFlags say how capture prints packets.
type textFlags struct {
	link, numeric, json        bool
	verbose, hex, ascii, times int
}

func (f *textFlags) add(c *cobra.Command) {
	fl := c.Flags() // empty backquotes: the flag has no argument to name
	fl.BoolVarP(&f.link, "link-header", "e", false, "print the link header, too")
	fl.BoolVarP(&f.numeric, "numeric", "n", false, "does nothing: names are never looked up")
	fl.CountVarP(&f.verbose, "verbose", "v", "print more of the headers``; -vv still more")
	fl.CountVarP(&f.hex, "hex", "x", "print the bytes of a packet``; -xx with its link header")
	fl.CountVarP(&f.ascii, "ascii", "X", "as -x, with characters``; -XX with its link header")
	fl.CountVarP(&f.times, "time", "t",
		"print no time``; -tt seconds since 1970; -ttt since the line before;\n"+
			"-tttt the date; -ttttt since the first line")
	fl.BoolVar(&f.json, "json", false, "print a JSON object for each packet")
}

// spec adds to what is to be written how it looks on an output.
func (f *textFlags) spec(
	c *cobra.Command, s sink.Spec, file string, out io.Writer,
) (sink.Spec, error) {
	for _, flag := range []string{
		"link-header", "numeric", "verbose", "hex", "ascii", "time", "json",
	} {
		if !c.Flags().Changed(flag) {
			continue
		}
		if file != "" {
			return s, usagef("%s is for printed packets, and -w writes them to a file: "+
				"leave one out", typed(c.Flags().Lookup(flag)))
		}
		if f.json && flag != "json" && flag != "numeric" {
			return s, usagef("%s changes lines of text, and --json prints none: leave one out",
				typed(c.Flags().Lookup(flag)))
		}
	}
	switch {
	case f.times > int(sink.SinceFirst):
		return s, usagef("-t: at most five times, -ttttt")
	case file != "":
		return s, nil
	case f.json:
		s.Format = sink.JSON
		return s, nil
	}
	s.Lines = sink.TextOptions{Times: sink.Times(f.times), Hex: min(f.hex, 2), ASCII: min(f.ascii, 2)}
	s.Lines.Link, s.Lines.Verbose = f.link, f.verbose
	if l := lookOf(out); l.color {
		s.Lines.Paint = func(p decode.Part, s string) string { return l.paint(s, colors[p]) }
	}
	return s, nil
}

// colors are those of the parts of a line.
var colors = map[decode.Part]text.Color{
	decode.Source: text.FgCyan, decode.Destination: text.FgHiCyan, decode.Protocol: text.Bold,
	decode.Name: text.FgYellow, decode.Alarm: text.FgHiRed, decode.Fault: text.FgRed,
}
