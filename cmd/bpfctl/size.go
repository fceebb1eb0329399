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
	n, err := parseSize(text, 31, "2G")
	*s = size(n)
	return err
}

// fileSize is a flag for the number of bytes of a file, or of several.
type fileSize int64

func (s *fileSize) String() string { return strconv.FormatInt(int64(*s), 10) }
func (s *fileSize) Type() string   { return "SIZE" }

func (s *fileSize) Set(text string) error {
	n, err := parseSize(text, 63, "8388608T")
	*s = fileSize(n)
	return err
}

// parseSize returns a number of bytes of fewer bits than given. limit is that number, for messages.
func parseSize(text string, bits int, limit string) (int64, error) {
	digits, shift := strings.TrimRight(text, "kKmMgGtT"), 0
	switch unit := text[len(digits):]; strings.ToUpper(unit) {
	case "":
	case "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	case "T":
		shift = 40
	default:
		return 0, fmt.Errorf("unit %q is not K, M, G or T", unit)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<bits-1)>>shift {
		return 0, fmt.Errorf("a size is a number of bytes below %s, such as 65536, 64K or 1M", limit)
	}
	return n << shift, nil
}
