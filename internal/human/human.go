// Package human formats numbers, names and errors for people.
package human

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Size formats a number of bytes. It is exact, in the largest unit that divides it.
func Size[T int | uint64](n T) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// RoughSize formats a number of bytes in at most seven characters.
func RoughSize(n uint64) string {
	f, unit := float64(n), 0
	for f >= 1000 && unit < 4 {
		f /= 1000
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGT"[unit-1])
}

// Decimal formats n in groups of three digits.
func Decimal(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Percent formats a share. A share that is neither none nor all never looks like one of them.
func Percent(part, whole uint64) string {
	switch {
	case whole == 0:
		return "-"
	case part == 0:
		return "0%"
	case part*1000 < whole:
		return "<0.1%"
	case part < whole && part*1000 > whole*999:
		return ">99.9%"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + "%"
}

// Plural formats n things.
func Plural(n int, thing string) string {
	if n == 1 {
		return "one " + thing
	}
	return Decimal(uint64(n)) + " " + thing + "s"
}

// Count formats n things with digits only, for programs that read it, too.
func Count(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.FormatUint(n, 10) + " " + thing + "s"
}

// Elapsed rounds a time span to what people read of it.
func Elapsed(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// packageName begins the errors of package bpf. "/dev/bpf: " does not match.
var packageName = regexp.MustCompile(`(^| )bpf: `)

// OneLine returns the text of an error without line breaks and package names.
func OneLine(err error) string {
	return packageName.ReplaceAllString(strings.ReplaceAll(err.Error(), "\n", "; "), "$1")
}

// Printable returns s with everything escaped that a terminal could take for a command, or
// that would not be visible: control characters, bytes that are not UTF-8, and characters
// that change the direction of the text. A file can hold any bytes as a name.
func Printable(s string) string {
	clean := func(r rune) bool { return r == ' ' || strconv.IsPrint(r) }
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case clean(r):
			b.WriteString(s[:n])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}
