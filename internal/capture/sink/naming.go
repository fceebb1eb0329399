package sink

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/zbuf-go/zbuf/internal/compression"
)

// Naming says what tells the names of a rotation's files apart.
type Naming int

// Each file has the name of -w, with one of these before the extension.
const (
	ByNumber Naming = iota // -00001, which counts up
	ByTime                 // -20260315T140000+0100, when the file began
)

// namer makes the names of a rotation's files, and knows them again.
type namer struct {
	naming    Naming
	stem, ext string
	pattern   *regexp.Regexp
	latest    place
}

const timeInName = "20060102T150405-0700"

func newNamer(name string, naming Naming) *namer {
	_, rest := compression.OfName(name)
	ext := filepath.Ext(rest) + name[len(rest):]
	n := &namer{naming: naming, stem: strings.TrimSuffix(name, ext), ext: ext}
	middle := `(\d{5,})`
	if naming == ByTime {
		middle = `(\d{8}T\d{6}[+-]\d{4})(?:_(\d+))?`
	}
	n.pattern = regexp.MustCompile("^" + regexp.QuoteMeta(n.stem) + "-" + middle +
		regexp.QuoteMeta(n.ext) + "$")
	return n
}

// next returns a name for a file that begins at t, behind all files that the namer knows.
func (n *namer) next(t time.Time) string {
	at := place{count: n.latest.count + 1}
	if n.naming == ByTime {
		if at.when = t.Truncate(time.Second); !at.when.Equal(n.latest.when) {
			at.count = 1
		}
	}
	n.latest = at
	switch {
	case n.naming == ByNumber:
		return fmt.Sprintf("%s-%05d%s", n.stem, at.count, n.ext)
	case at.count > 1:
		return fmt.Sprintf("%s-%s_%d%s", n.stem, t.Format(timeInName), at.count, n.ext)
	}
	return n.stem + "-" + t.Format(timeInName) + n.ext
}

// knows tells the namer of a file.
func (n *namer) knows(p place) {
	if p.compare(n.latest) > 0 {
		n.latest = p
	}
}

// place is the place of a file in the order of a rotation: by time and then by number.
type place struct {
	when  time.Time
	count int // from 1
}

func (p place) compare(q place) int {
	return cmp.Or(p.when.Compare(q.when), cmp.Compare(p.count, q.count))
}

// place returns the place of a file that this rotation or an earlier one has made. ok is false for
// all other names.
func (n *namer) place(name string) (p place, ok bool) {
	m := n.pattern.FindStringSubmatch(name)
	if m == nil {
		return place{}, false
	}
	var err error
	if n.naming == ByNumber {
		p.count, err = strconv.Atoi(m[1])
		return p, err == nil
	}
	p.count = 1
	if p.when, err = time.Parse(timeInName, m[1]); err == nil && m[2] != "" {
		p.count, err = strconv.Atoi(m[2])
	}
	return p, err == nil
}
