// Package printable makes text from a guest safe for a terminal.
package printable

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// returns are the carriage returns that a serial port puts before the end of a line.
var returns = regexp.MustCompile(`\r+(\n|$)`)

// Text returns s with every control character escaped, except ends of lines and tabs. It drops
// carriage returns before the end of a line, or of s. It also escapes characters that change the
// direction of text, and bytes that are not UTF-8.
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
