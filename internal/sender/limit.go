package sender

import (
	"fmt"
	"strings"

	"github.com/zbuf-go/zbuf/internal/machine"
)

const (
	// largeCluster is the most memory that a write gets from FreeBSD 14 on (MJUM16BYTES).
	largeCluster = 16384
	// osreldateLargeCluster is the first release whose write takes it.
	osreldateLargeCluster = 1400000
	// largestPage is the most that earlier releases take for a page (MJUMPAGESIZE).
	largestPage = 8192
)

// leftOut counts packets that the interface does not take.
type leftOut struct {
	tooLong, tooShort uint64
	longest           int // of those that were too long
	noMemory          int // the shortest for which the kernel found no memory; 0 if there was none
}

// limit returns the longest packet that an interface takes, and why it takes no longer one. n is
// 0 if it is not known.
func (s *Sender) limit(m *machine.Machine) (n int, why string) {
	if all, err := m.Interfaces(); err == nil {
		for _, i := range all {
			if i.Name == s.out.iface && i.MTU > 0 {
				n = s.out.linkHeader() + i.MTU
				why = fmt.Sprintf("its MTU of %d", i.MTU)
				if h := s.out.linkHeader(); h > 0 {
					why += fmt.Sprintf(" and a link header of %d", h)
				}
			}
		}
	}
	if memory := s.writeMemory(m); memory > 0 && (n == 0 || memory < n) {
		n, why = memory, "the memory that the kernel finds for one write"
	}
	return n, why
}

// writeMemory returns the longest packet that the kernel finds memory for, or 0 if no packet
// tells. What happened to packets counts for more than the release.
func (s *Sender) writeMemory(m *machine.Machine) int {
	page := largestPage
	if n, err := m.PageSize(); err == nil {
		page = min(page, n)
	}
	release, err := m.Sysctl.Int32("kern.osreldate")
	switch {
	case s.left.noMemory > 0 && s.left.noMemory <= largeCluster:
		return page
	case s.longestSent > page:
		return largeCluster
	case err != nil:
		return 0
	case release >= osreldateLargeCluster:
		return largeCluster
	}
	return page
}

// LeftOut says how many packets were left out and why. It is empty if none was.
func (s *Sender) LeftOut(m *machine.Machine) string {
	var why []string
	if s.left.tooLong > 0 {
		limit := ""
		if n, because := s.limit(m); n > 0 {
			limit = fmt.Sprintf("it takes %d bytes, which is %s; ", n, because)
		}
		why = append(why, fmt.Sprintf("%d too long for %s (%sthe longest packet has %d)",
			s.left.tooLong, s.out.iface, limit, s.left.longest))
	}
	if s.left.tooShort > 0 {
		shortest := "an empty packet can't be sent"
		if h := s.out.linkHeader(); h > 0 {
			shortest = fmt.Sprintf("a link header has %d bytes", h)
		}
		why = append(why, fmt.Sprintf("%d too short (%s)", s.left.tooShort, shortest))
	}
	return strings.Join(why, ", ")
}
