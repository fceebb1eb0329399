//go:build unix

package termshot

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// Screen is what a terminal shows: text of one width, without colours. It knows those parts of
// ECMA-48 that programs need to draw in place. Anything else is an error.
type Screen struct {
	columns int
	cells   [][]rune
	x, y    int
	rest    []byte // of a sequence that is not complete
}

// NewScreen returns an empty screen.
func NewScreen(columns, lines int) *Screen {
	s := &Screen{columns: columns}
	for range lines {
		s.cells = append(s.cells, s.blank())
	}
	return s
}

func (s *Screen) blank() []rune { return []rune(strings.Repeat(" ", s.columns)) }

// String returns the lines, without spaces at their ends and empty lines at the bottom.
func (s *Screen) String() string {
	var b strings.Builder
	for _, line := range s.cells {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// Write shows what a program wrote.
func (s *Screen) Write(p []byte) error {
	p = append(s.rest, p...)
	for len(p) > 0 {
		n, err := s.step(p)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		p = p[n:]
	}
	s.rest = append([]byte(nil), p...)
	return nil
}

// step shows one character, or does what one sequence asks for. It returns its length, or 0 if the
// sequence is not complete.
func (s *Screen) step(p []byte) (int, error) {
	switch p[0] {
	case '\r':
		s.x = 0
		return 1, nil
	case '\n':
		s.down()
		return 1, nil
	case '\x1b':
		return s.sequence(p)
	}
	if !utf8.FullRune(p) {
		return 0, nil
	}
	r, n := utf8.DecodeRune(p)
	if !unicode.IsPrint(r) || runewidth.RuneWidth(r) != 1 {
		return 0, fmt.Errorf("termshot: character %q", r)
	}
	if s.x == s.columns {
		s.x = 0
		s.down()
	}
	s.cells[s.y][s.x] = r
	s.x++
	return n, nil
}

func (s *Screen) down() {
	if s.y++; s.y == len(s.cells) {
		s.y--
		s.cells = append(s.cells[1:], s.blank())
	}
}

func (s *Screen) sequence(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, nil
	}
	end := 2
	for ; end < len(p) && (p[end] < '@' || p[end] > '~'); end++ {
	}
	if end == len(p) {
		return 0, nil
	}
	parameter := string(p[2:end])
	n, err := strconv.Atoi(parameter)
	if parameter == "" {
		n, err = 0, nil
	}
	clear := func(line []rune) {
		for i := range line {
			line[i] = ' '
		}
	}
	switch final := p[end]; {
	case p[1] == '[' && final == 'm':
	case p[1] == '[' && err == nil && final == 'A':
		s.y = max(0, s.y-max(1, n))
	case p[1] == '[' && n == 0 && err == nil && final == 'K':
		clear(s.cells[s.y][min(s.x, s.columns):])
	case p[1] == '[' && n == 2 && err == nil && final == 'K':
		clear(s.cells[s.y])
	case p[1] == '[' && n == 0 && err == nil && final == 'J':
		clear(s.cells[s.y][min(s.x, s.columns):])
		for _, line := range s.cells[s.y+1:] {
			clear(line)
		}
	default:
		return 0, fmt.Errorf("termshot: sequence %q", p[:end+1])
	}
	return end + 1, nil
}
