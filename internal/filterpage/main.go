// Filterpage makes docs/filter-judges.md of what the tests and benchmarks of package filter say.
//
//	filterpage FOLDER
//
// The folder has outputs of "go test -v". Those of benchmarks are in bench.txt, and the other ones
// have the name of the system that the tests ran on.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: filterpage FOLDER")
		os.Exit(2)
	}
	if err := page(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "filterpage:", err)
		os.Exit(1)
	}
}

const head = `# The judges of package filter

` + "`make filters`" + ` made this page. It has what the tests and benchmarks of
[filter](../filter) said when they ran. [filter.md](filter.md) says what each test does.
`

func page(w io.Writer, folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s has no outputs of tests", folder)
	}
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if _, err := fmt.Fprintf(w, "\n## %s\n\n%s", name, section(string(text))); err != nil {
			return err
		}
	}
	return nil
}

var (
	begun     = regexp.MustCompile(`^=== RUN +(Test\w+)$`)
	said      = regexp.MustCompile(`^    \w+_test\.go:\d+: (.*)$`)
	ended     = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (Test\w+) `)
	machine   = regexp.MustCompile(`^(goos|goarch|cpu): (.*)$`)
	benchmark = regexp.MustCompile(`^Benchmark(\S+?)(-\d+)?\s+\d+\s+(.*)$`)
)

// section returns what one output has to say. A test that did not pass is named as such.
func section(text string) string {
	var b strings.Builder
	test := ""
	table := ""
	row := func(kind, a, c string) {
		if table != kind {
			fmt.Fprintf(&b, "\n| %s | |\n| --- | --- |\n", kind)
			table = kind
		}
		fmt.Fprintf(&b, "| %s | %s |\n", a, c)
	}
	for line := range lines(text) {
		if m := begun.FindStringSubmatch(line); m != nil {
			test = m[1]
		} else if m := said.FindStringSubmatch(line); m != nil {
			row("test", test, strings.TrimSpace(m[1]))
		} else if m := ended.FindStringSubmatch(line); m != nil && m[1] != "PASS" {
			row("test", m[2], "**"+m[1]+"**")
		} else if m := machine.FindStringSubmatch(line); m != nil {
			fmt.Fprintf(&b, "- %s: %s\n", m[1], m[2])
		} else if m := benchmark.FindStringSubmatch(line); m != nil {
			row("benchmark", m[1], strings.Join(strings.Fields(m[3]), " "))
		}
	}
	return b.String()
}

func lines(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		s := bufio.NewScanner(strings.NewReader(text))
		for s.Scan() && yield(s.Text()) {
		}
	}
}
