//go:build unix

// Intofile runs programs on a terminal and writes their screens into a document, between lines such
// as
//
//	<!-- shot until [0-9]{4} packets: bpfctl capture --model steady -i em0 -w /dev/null -->
//	<!-- end of shot -->
//
// The program runs until its screen matches the regular expression.
//
//	go run ./internal/termshot/intofile README.md
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/zbuf-go/zbuf/internal/termshot"
)

// The size of the terminal.
const (
	columns = 110
	lines   = 48
)

var shot = regexp.MustCompile(
	`(?s)(<!-- shot until ([^\n]*?): ([^\n]*) -->\n).*?(<!-- end of shot -->)`)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: intofile DOCUMENT")
		os.Exit(2)
	}
	if err := renew(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "intofile:", err)
		os.Exit(1)
	}
}

func renew(document string) error {
	was, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	if !shot.Match(was) {
		return fmt.Errorf("%s: no line <!-- shot until REGEXP: COMMAND -->", document)
	}
	now := shot.ReplaceAllFunc(was, func(old []byte) []byte {
		m := shot.FindSubmatch(old)
		text, ferr := take(string(m[2]), string(m[3]))
		if ferr != nil {
			err = fmt.Errorf("%s: %w", m[3], ferr)
			return old
		}
		return append(append(append([]byte(nil), m[1]...), text...), m[4]...)
	})
	if err != nil || bytes.Equal(was, now) {
		return err
	}
	return os.WriteFile(document, now, 0o644)
}

// take runs a command until its screen matches and returns the screen as a block of text.
func take(until, command string) (string, error) {
	re, err := regexp.Compile(until)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "intofile")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	words := strings.Fields(command)
	c := exec.Command(words[0], words[1:]...)
	c.Dir = dir
	c.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C.UTF-8")
	screen, _, _, err := termshot.Run(c, columns, lines, func(screen, _ string) bool {
		return re.MatchString(screen)
	})
	if err != nil {
		return "", err
	}
	return "```console\n$ " + command + "\n" + screen + "```\n", nil
}
