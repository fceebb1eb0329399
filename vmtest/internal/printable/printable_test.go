package printable

import (
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain text stays", "one\ttwo\nthree é", "one\ttwo\nthree é"},
		{"ends of lines of a serial port", "a\r\nb\r\r\nc\r", "a\nb\nc"},
		{"a return in mid-line", "a\rb", `a\x0db`},
		{"colours", "\x1b[31mred", `\x1b[31mred`},
		{"a title", "\x1b]0;t\a", `\x1b]0;t\x07`},
		{"controls of eight bits", "\u009b31m", `\u009b31m`},
		{"bytes that are no text", "a\xffb\x9b", `a\xffb\x9b`},
		{"the replacement character itself", "\uFFFD", "\uFFFD"},
		{"direction", "a\u202eb", `a\u202eb`},
		{"nothing and delete", "\x00\x7f", `\x00\x7f`},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, Text(tt.in)) })
	}
}

func FuzzText(f *testing.F) {
	f.Add("\x1b[31m\u009b\xff\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Text(s) {
			require.True(t, r == '\n' || r == '\t' || unicode.IsPrint(r), "%q", r)
		}
	})
}
