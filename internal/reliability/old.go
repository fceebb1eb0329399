package main

import (
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

// rowOf reads a line of the table. It is not ok if the line is none.
func rowOf(line string) (*row, bool) {
	cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
	if len(cells) != 6+len(figures) {
		return nil, false
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
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
