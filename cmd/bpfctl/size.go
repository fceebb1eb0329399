package main

import (
	"fmt"
	"strconv"
	"strings"
)

// size is a flag for a number of bytes such as 65536, 64K or 1M.
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
