package exporter

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/sysctl"
)

// MaxSeries is the largest number of combinations of labels.
const MaxSeries = 200

// labels are what tells series apart. Without PerPID, pid and index are empty.
type labels struct{ program, iface, pid, index string }

// other are the labels of what has no place of its own.
var other = labels{program: "other", iface: "other"}

func (l labels) compare(m labels) int {
	return cmp.Or(cmp.Compare(l.program, m.program), cmp.Compare(l.iface, m.iface),
		cmp.Compare(l.pid, m.pid), cmp.Compare(l.index, m.index))
}

// series sums the listeners that have the same labels.
type series struct {
	counts              // since the first look; they never fall
	listeners   int     // now, as the rest
	zeroCopy    int     // of the listeners, those in zero-copy mode
	used, size  int     // bytes of packets in the buffers, and bytes that these have room for
	fullest     float64 // share of its buffers that the fullest listener uses
	lastPresent uint64  // the number of the last look that saw a listener
}

// ledger adds up, from one look to the next, what listeners count.
type ledger struct {
	perPID bool
	last   []entry
	looks  uint64
	series map[labels]*series
}

// look takes the kernel's list of listeners.
func (l *ledger) look(now []sysctl.Listener) {
	l.looks++
	grown := match(l.last, now)
	seen := make([]entry, len(now))
	for i := range now {
		seen[i] = entry{Listener: now[i], index: -1}
		if was := grown[i].was; was != nil && seen[i].Process == "" {
			seen[i].Process = was.Process // its name was not found this time
		}
	}
	if l.perPID {
		number(seen, grown)
	}
	of := make([]labels, len(seen))
	for i := range seen {
		of[i] = l.labelsOf(seen[i])
	}
	l.makePlaces(of)
	for _, s := range l.series {
		*s = series{counts: s.counts, lastPresent: s.lastPresent}
	}
	for i := range seen {
		s, ok := l.series[of[i]]
		if !ok {
			s = l.series[other]
		}
		s.add(seen[i].Listener, grown[i].counts)
		s.lastPresent = l.looks
	}
	l.last = seen
}

func (s *series) add(l sysctl.Listener, grown counts) {
	s.counts.add(grown)
	s.listeners++
	if l.ZeroCopy() {
		s.zeroCopy++
	}
	used, size := l.Store+l.Hold, 2*l.BufferSize
	s.used += used
	s.size += size
	if size > 0 {
		s.fullest = max(s.fullest, float64(used)/float64(size))
	}
}

func (l *ledger) labelsOf(e entry) labels {
	of := labels{program: human.Printable(e.Process), iface: human.Printable(e.Interface)}
	if e.Process == "" {
		of.program = "?"
	}
	if l.perPID {
		of.pid, of.index = strconv.Itoa(e.PID), strconv.Itoa(e.index)
	}
	return of
}

// number numbers the listeners of a process on an interface from 0, the oldest first. A listener
// keeps its number when others go. A new one gets the smallest number that is free.
func number(seen []entry, grown []growth) {
	type owner struct {
		pid   int
		iface string
	}
	taken := map[owner]map[int]bool{}
	for i := range seen {
		o := owner{seen[i].PID, seen[i].Interface}
		if taken[o] == nil {
			taken[o] = map[int]bool{}
		}
		if was := grown[i].was; was != nil {
			seen[i].index = was.index
			taken[o][was.index] = true
		}
	}
	for i := len(seen) - 1; i >= 0; i-- {
		used := taken[owner{seen[i].PID, seen[i].Interface}]
		for n := 0; seen[i].index < 0; n++ {
			if !used[n] {
				seen[i].index, used[n] = n, true
			}
		}
	}
}

// makePlaces gives each combination of labels a series, as long as there is room. If there is none,
// it takes the places of series that have had no listener for longest. The rest is for other.
func (l *ledger) makePlaces(of []labels) {
	wanted := map[labels]bool{}
	for _, x := range of {
		wanted[x] = true
	}
	var idle, without []labels
	for x := range l.series {
		if !wanted[x] && x != other {
			idle = append(idle, x)
		}
	}
	slices.SortFunc(idle, func(a, b labels) int {
		return cmp.Or(cmp.Compare(l.series[a].lastPresent, l.series[b].lastPresent), a.compare(b))
	})
	for _, x := range slices.SortedFunc(maps.Keys(wanted), labels.compare) {
		if _, ok := l.series[x]; !ok {
			without = append(without, x)
		}
	}
	places := MaxSeries - 1 // the last one is for other
	if _, ok := l.series[other]; ok {
		places++
	}
	for _, x := range without {
		if len(l.series) >= places && len(idle) > 0 {
			delete(l.series, idle[0])
			idle = idle[1:]
		}
		if len(l.series) >= places {
			x, places = other, MaxSeries
		}
		if _, ok := l.series[x]; !ok {
			l.series[x] = &series{}
		}
	}
}
