package human

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSizes(t *testing.T) {
	for n, want := range map[int]string{0: "0 bytes", 1000: "1000 bytes", 4096: "4 KiB",
		5 << 19: "2560 KiB", 2 << 20: "2 MiB"} {
		assert.Equal(t, want, Size(n))
	}
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 2_345_678: "2.3 MB",
		5e12: "5.0 TB", 5e15: "5000.0 TB"} {
		assert.Equal(t, want, RoughSize(n))
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567",
		1<<64 - 1: "18,446,744,073,709,551,615"} {
		assert.Equal(t, want, Decimal(n))
	}
	for _, c := range []struct {
		part, whole uint64
		want        string
	}{{0, 0, "-"}, {0, 5, "0%"}, {1, 3, "33.3%"}, {5, 5, "100.0%"}, {1, 1e6, "<0.1%"},
		{1e6 - 1, 1e6, ">99.9%"}} {
		assert.Equal(t, c.want, Percent(c.part, c.whole))
	}
}

func TestPrintableEscapesWhatATerminalObeys(t *testing.T) {
	for name, want := range map[string]string{
		"":                             "",
		"em0":                          "em0",
		`\Device\NPF_{1} ü 日本`:         `\Device\NPF_{1} ü 日本`,
		"\x1b[2Jem0\r\n":               `\x1b[2Jem0\r\n`,
		"tab\tbell\a":                  `tab\tbell\a`,
		"\u009b31m":                    `\u009b31m`, // CSI in one character
		"\x9b31m":                      `\x9b31m`,   // the same as a byte
		"\xff\xfeabc":                  `\xff\xfeabc`,
		"right\u202eleft \u200b\ufeff": `right\u202eleft \u200b\ufeff`,
		"\x7f":                         `\x7f`,
	} {
		assert.Equal(t, want, Printable(name), "%q", name)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("em0\x1b]0;title\a\u009b\xff")
	f.Fuzz(func(t *testing.T, s string) {
		p := Printable(s)
		require.True(t, utf8.ValidString(p))
		for _, r := range p {
			require.False(t, r < ' ' || r >= 0x7f && r < 0xa0, "%q has %q", p, r)
		}
		require.Equal(t, p, Printable(p), "what is printable stays as it is")
	})
}
