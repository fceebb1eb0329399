package exporter

import (
	"slices"

	"github.com/zbuf-go/zbuf/sysctl"
)

// entry is a listener of the latest look.
type entry struct {
	sysctl.Listener
	index int // with PerPID: its number among those that are equal
}

// counts are the counters of a listener, or their growth, or sums of these.
type counts struct{ received, matched, dropped uint64 }

func (c *counts) add(d counts) {
	c.received += d.received
	c.matched += d.matched
	c.dropped += d.dropped
}

func (c counts) sum() uint64 { return c.received + c.matched + c.dropped }

func countsOf(l sysctl.Listener) counts { return counts{l.Received, l.Matched, l.Dropped} }

// since returns the growth of a listener's counters. It reports false if one of them fell, because
// then the listener was reset, or is another one.
func since(old, now sysctl.Listener) (counts, bool) {
	if now.Received < old.Received || now.Matched < old.Matched || now.Dropped < old.Dropped ||
		now.ZeroCopyAppends < old.ZeroCopyAppends || now.WriteErrors < old.WriteErrors {
		return counts{}, false
	}
	return counts{now.Received - old.Received, now.Matched - old.Matched,
		now.Dropped - old.Dropped}, true
}

// growth is what a listener adds to the counters, and the entry of the latest look that it was.
type growth struct {
	counts
	was *entry // nil if it is new, or was reset
}

// kind has what does not change while a descriptor listens.
type kind struct {
	pid    int
	iface  string
	mode   int
	buffer int
}

func kindOf(l sysctl.Listener) kind { return kind{l.PID, l.Interface, l.BufferMode, l.BufferSize} }

// match finds the listeners of the latest look among those of now, and returns the growth of each
// one of now. The kernel does not number descriptors. It lists them in one order, the latest first.
//
// Listeners of different kinds are different. Of one kind there can be several, some of which have
// gone or are new. Of all the ways to pair them in their order, match takes the one in which the
// counters grow least. The true way is one of these, so match never counts too much.
func match(old []entry, now []sysctl.Listener) []growth {
	before, after := map[kind][]int{}, map[kind][]int{}
	for i := range old {
		k := kindOf(old[i].Listener)
		before[k] = append(before[k], i)
	}
	for i := range now {
		k := kindOf(now[i])
		after[k] = append(after[k], i)
	}
	all := make([]growth, len(now))
	for i := range now {
		all[i].counts = countsOf(now[i])
	}
	for k, of := range after {
		for _, p := range pair(old, now, before[k], of) {
			grown, _ := since(old[p.old].Listener, now[p.now])
			all[p.now] = growth{grown, &old[p.old]}
		}
	}
	return all
}

// pairing says that a listener of the latest look is one of now.
type pairing struct{ old, now int }

// tooMany is the size of a table from which on pair takes a shorter way: 512 listeners of one
// kind, then and now.
const tooMany = 512 * 512

// pair pairs listeners of one kind. least[i][j] is the least growth with the first i of before and
// the first j of after.
func pair(old []entry, now []sysctl.Listener, before, after []int) (pairs []pairing) {
	m, n := len(before), len(after)
	if m*n > tooMany {
		return pairOldest(old, now, before, after)
	}
	table := make([]uint64, (m+1)*(n+1))
	least := func(i, j int) *uint64 { return &table[i*(n+1)+j] }
	for i := 0; i <= m; i++ {
		for j := 1; j <= n; j++ {
			best := *least(i, j-1) + countsOf(now[after[j-1]]).sum() // it is new
			if i > 0 {
				best = min(best, *least(i-1, j)) // the old one has gone
				if grown, ok := since(old[before[i-1]].Listener, now[after[j-1]]); ok {
					best = min(best, *least(i-1, j-1)+grown.sum())
				}
			}
			*least(i, j) = best
		}
	}
	for i, j := m, n; i > 0 && j > 0; {
		grown, ok := since(old[before[i-1]].Listener, now[after[j-1]])
		switch best := *least(i, j); {
		case ok && best == *least(i-1, j-1)+grown.sum():
			pairs = append(pairs, pairing{before[i-1], after[j-1]})
			i, j = i-1, j-1
		case best == *least(i-1, j):
			i--
		default:
			j--
		}
	}
	return pairs
}

// pairOldest pairs the oldest with the oldest.
func pairOldest(old []entry, now []sysctl.Listener, before, after []int) (pairs []pairing) {
	slices.Reverse(before)
	slices.Reverse(after)
	for i := range min(len(before), len(after)) {
		if _, ok := since(old[before[i]].Listener, now[after[i]]); ok {
			pairs = append(pairs, pairing{before[i], after[i]})
		}
	}
	return pairs
}
