package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// rowsOf returns the rows of the page of before that no new run replaces. A run replaces the row of
// the same tests in the same place. A row of tests that are gone is dropped.
func rowsOf(page []byte, replaced []*row) (rows []*row) {
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, fuzzing[1:]) {
			break
		}
		r, ok := rowOf(line)
		if ok && !slices.ContainsFunc(replaced, func(o *row) bool {
			return o.what == r.what && o.where == r.where
		}) {
			rows = append(rows, r)
		}
	}
	return rows
}

// fuzzedOf returns what the page of before says of the fuzz targets that no new run replaces.
func fuzzedOf(page []byte, replaced []*fuzzed) (rows []*fuzzed) {
	_, part, _ := strings.Cut(string(page), fuzzing)
	for line := range strings.Lines(part) {
		cells := cellsOf(line)
		if len(cells) != 6 || !strings.HasPrefix(cells[1], "Fuzz") {
			continue
		}
		f := &fuzzed{pkg: cells[0], target: cells[1]}
		var errs [4]error
		f.took, errs[0] = time.ParseDuration(cells[2])
		f.execs, errs[1] = strconv.ParseUint(strings.ReplaceAll(cells[3], ",", ""), 10, 64)
		f.interesting, errs[2] = strconv.ParseUint(cells[4], 10, 64)
		f.seen, errs[3] = strconv.ParseUint(cells[5], 10, 64)
		if errors.Join(errs[:]...) == nil && !slices.ContainsFunc(replaced, func(o *fuzzed) bool {
			return o.pkg == f.pkg && o.target == f.target
		}) {
			rows = append(rows, f)
		}
	}
	return rows
}

// rowOf reads a line of the table. It is not ok if the line is none.
func rowOf(line string) (*row, bool) {
	cells := cellsOf(line)
	if len(cells) != 6+len(figures) {
		return nil, false
	}
	suite := slices.IndexFunc(suites, func(s suite) bool {
		return s.what == cells[0] || s.perTest() && strings.HasPrefix(cells[0], s.what)
	})
	runs, err := strconv.Atoi(cells[4])
	took, err2 := time.ParseDuration(cells[5])
	if suite < 0 || err != nil || err2 != nil {
		return nil, false
	}
	r := &row{
		suite: suite, what: cells[0], where: cells[1], with: cells[2], took: took, earlier: runs,
		days: strings.Split(cells[3], ", "), sum: map[lab.Figure]uint64{},
	}
	if r.with == "short form" {
		r.with = ""
	}
	for i, f := range figures {
		if n, err := strconv.ParseUint(strings.ReplaceAll(cells[6+i], ",", ""), 10, 64); err == nil {
			r.sum[f] = n
		}
	}
	return r, true
}
