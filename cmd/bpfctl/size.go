package main

import (
	"fmt"
	"strconv"
	"strings"
)

// size is a flag: a number of bytes such as 65536, 64K or 1M.
type size int

func (s *size) String() string { return strconv.Itoa(int(*s)) }
func (s *size) Type() string   { return "SIZE" }

func (s *size) Set(text string) error {
	digits, shift := strings.TrimRight(text, "kKmMgG"), 0
	switch unit := text[len(digits):]; strings.ToUpper(unit) {
	case "":
	case "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	default:
		return fmt.Errorf("unit %q is not K, M or G", unit)
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || n<<shift > 1<<31-1 {
		return fmt.Errorf("a size is a number of bytes below 2G, such as 65536, 64K or 1M")
	}
	*s = size(n << shift)
	return nil
}

// formatSize is n bytes for people, exact where it is a whole number of a unit.
func formatSize[T int | uint64](n T) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
