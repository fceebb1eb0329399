// Package program reads filter programs from files as `tcpdump -ddd` prints them.
package program

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
)

// Read reads a filter program from a file: the number of instructions, then one on each line as
// four decimal numbers. It refuses programs that the kernel would refuse, and programs that were
// made for Linux.
func Read(name string) ([]bpf.RawInstruction, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	prog, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return prog, nil
}

func parse(r io.Reader) ([]bpf.RawInstruction, error) {
	var prog []bpf.RawInstruction
	count, line := -1, 0
	s := bufio.NewScanner(r)
	for s.Scan() {
		line++
		text := strings.TrimSpace(s.Text())
		if text == "" {
			continue
		}
		var err error
		var rest string
		if count < 0 {
			_, err = fmt.Sscanf(text+" .", "%d %1s", &count, &rest)
		} else {
			var i bpf.RawInstruction
			_, err = fmt.Sscanf(text+" .", "%d %d %d %d %1s", &i.Op, &i.Jt, &i.Jf, &i.K, &rest)
			prog = append(prog, i)
		}
		if err != nil || rest != "." || count < 0 {
			return nil, fmt.Errorf("line %d, %.40q, is not what `tcpdump -ddd` prints", line, text)
		}
		if len(prog) > count {
			return nil, fmt.Errorf("line %d: the first line promises only %d instructions", line, count)
		}
	}
	switch err := s.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line %d is not what `tcpdump -ddd` prints", line+1)
	case err != nil:
		return nil, err
	case count <= 0:
		return nil, errors.New("no filter program: make one with `tcpdump -ddd EXPRESSION`")
	case len(prog) < count:
		return nil, fmt.Errorf("%d instructions where the first line promises %d", len(prog), count)
	}
	if err := zbuf.Validate(prog); err != nil {
		return nil, err
	}
	return prog, forLinux(prog)
}
