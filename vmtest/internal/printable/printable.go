// Package printable makes text from a guest fit for a terminal.
package printable

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// returns are what a serial port puts before the end of a line.
var returns = regexp.MustCompile(`\r+(\n|$)`)

// Text returns s with every control character escaped, but for ends of lines and
// tabs. Carriage returns before the end of a line, or of s, are dropped. Characters that
// change the direction of text, and bytes that are no UTF-8, are escaped too.
func Text(s string) string {
	s = returns.ReplaceAllString(s, "$1")
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && s[i] != "\uFFFD"[0]:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
