package sink

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
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
	latest    int // number
}

const timeInName = "20060102T150405-0700"

func newNamer(name string, naming Naming) *namer {
	n := &namer{naming: naming, ext: filepath.Ext(name)}
	if n.ext == ".gz" || n.ext == ".zst" {
		n.ext = filepath.Ext(strings.TrimSuffix(name, n.ext)) + n.ext
	}
	n.stem = strings.TrimSuffix(name, n.ext)
	middle := `(\d{5,})`
	if naming == ByTime {
		middle = `(\d{8}T\d{6}[+-]\d{4})(?:_(\d+))?`
	}
	n.pattern = regexp.MustCompile("^" + regexp.QuoteMeta(n.stem) + "-" + middle +
		regexp.QuoteMeta(n.ext) + "$")
	return n
}

// next returns a name for a file that begins at t. taken is the number of names in turn that it
// returned before and that other files have.
func (n *namer) next(t time.Time, taken int) string {
	if n.naming == ByNumber {
		n.latest++
		return fmt.Sprintf("%s-%05d%s", n.stem, n.latest, n.ext)
	}
	again := ""
	if taken > 0 {
		again = fmt.Sprintf("_%d", taken+1)
	}
	return n.stem + "-" + t.Format(timeInName) + again + n.ext
}

// place is the place of a file in the order of a rotation.
type place struct {
	when  time.Time
	count int
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
	if p.when, err = time.Parse(timeInName, m[1]); err == nil && m[2] != "" {
		p.count, err = strconv.Atoi(m[2])
	}
	return p, err == nil
}
