package filter

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// An Error describes a mistake in an expression. It has the problem, its place, and a hint what to
// write instead.
type Error struct {
	Expression string // the expression as given
	Pos, End   int    // bytes of Expression that are wrong; Pos == End is a place between two
	Problem    string // the mistake
	Expected   string // the words that could stand there; empty if that does not help
	Hint       string // a text to write instead; empty if there is no better idea

	cause error // ErrNoMatch or nil
}

// ErrNoMatch is in the error of an expression that is well-formed and matches no packet of the link
// type, such as "arp" on the loopback interface.
var ErrNoMatch = errors.New("no packet of this link type can match")

// Unwrap returns [ErrNoMatch] or nil.
func (e *Error) Unwrap() error { return e.cause }

// Error returns several lines: the problem, the expression, a caret under the token, and advice.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("filter: ")
	b.WriteString(e.Problem)
	if line, col, width := e.line(); line != "" {
		fmt.Fprintf(&b, "\n  %s\n  %s%s", line, strings.Repeat(" ", col), strings.Repeat("^", width))
	}
	if e.Expected != "" {
		b.WriteString("\n  expected: ")
		b.WriteString(e.Expected)
	}
	if e.Hint != "" {
		b.WriteString("\n  write: ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// line returns the line of the expression that holds Pos, with tabs and control characters as
// spaces. The carets go below the width characters from col on.
func (e *Error) line() (line string, col, width int) {
	pos, end := min(max(e.Pos, 0), len(e.Expression)), min(max(e.End, 0), len(e.Expression))
	start := strings.LastIndexByte(e.Expression[:pos], '\n') + 1
	stop := len(e.Expression)
	if n := strings.IndexByte(e.Expression[pos:], '\n'); n >= 0 {
		stop = pos + n
	}
	end = min(max(end, pos), stop)
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, e.Expression[start:stop])
	col = utf8.RuneCountInString(e.Expression[start:pos])
	width = max(utf8.RuneCountInString(e.Expression[pos:end]), 1)
	return excerpt(line, col, width)
}

// excerpt cuts a line that is too long for a terminal. It keeps the text around the carets.
func excerpt(line string, col, width int) (string, int, int) {
	const most, before, cut = 76, 36, "..."
	runes := []rune(line)
	if from := col - before; from > 0 && len(runes) > most {
		runes = append([]rune(cut), runes[from:]...)
		col = before + len(cut)
	}
	if len(runes) > most {
		runes = append(runes[:most-len(cut)], []rune(cut)...)
	}
	return string(runes), col, min(width, max(most-col, 1))
}
