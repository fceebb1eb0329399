package main

import (
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// look has the abilities of an output.
type look struct {
	live    bool // it is a terminal on which a picture can change
	color   bool // false if NO_COLOR (no-color.org) is set
	unicode bool
	width   int // columns; 0 means no limit
	height  int // lines
}

func lookOf(w io.Writer) look {
	if !isTerminal(w) {
		return look{unicode: true}
	}
	l := look{live: os.Getenv("TERM") != "dumb"}
	l.color = l.live && os.Getenv("NO_COLOR") == ""
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} { // the first that is set decides
		if v := strings.ToUpper(os.Getenv(name)); v != "" {
			l.unicode = strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
			break
		}
	}
	l.width, l.height, _ = term.GetSize(int(w.(*os.File).Fd()))
	return l
}

func (l look) paint(s string, how ...text.Color) string {
	if !l.color || s == "" {
		return s
	}
	return text.Colors(how).Sprint(s)
}

// columns returns a table without lines between its cells.
func (l look) columns(header ...any) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	style.Format.Header = text.FormatDefault
	style.Size.WidthMax = l.width
	style.Box.UnfinishedRow = ">"
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	if len(header) > 0 {
		row := table.Row{}
		for _, h := range header {
			row = append(row, l.paint(h.(string), text.Bold))
		}
		t.AppendHeader(row)
	}
	return t
}

// right aligns columns, numbered from 1, to the right.
func right(t table.Writer, numbers ...int) {
	var all []table.ColumnConfig
	for _, n := range numbers {
		all = append(all, table.ColumnConfig{Number: n, Align: text.AlignRight,
			AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(all)
}

// sparkline draws values from 0 to the greatest, one character each. A value above 0 never looks
// like 0.
func (l look) sparkline(values []float64) string {
	levels := []rune(" ▁▂▃▄▅▆▇█")
	if !l.unicode {
		levels = []rune(" .:-=+*%#")
	}
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		n := 0
		if v > 0 {
			n = max(1, int(v/top*float64(len(levels)-1)+0.5))
		}
		b.WriteRune(levels[n])
	}
	return b.String()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
