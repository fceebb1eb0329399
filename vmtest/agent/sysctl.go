//go:build freebsd

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Meta entries of the sysctl tree, sys/sysctl.h: {0, n, mib...}.
const (
	sysctlName    = 1
	sysctlNext    = 2
	sysctlName2ID = 3
	sysctlFormat  = 4
)

// Parts of an entry's kind.
const (
	kindType  = 0xf
	kindWrite = 0x40000000 // CTLFLAG_WR
	kindStats = 0x00002000 // CTLFLAG_STATS: a statistic, not a setting

	kindString = 3
)

// kindSize maps the integer types to their sizes.
var kindSize = map[uint32]int{
	2: 4, 6: 4, // int, u_int
	7: 8, 8: 8, // long, u_long: the agent is built for 64 bits
	4: 8, 9: 8, // int64_t, uint64_t
	0xa: 1, 0xb: 2, 0xc: 1, 0xd: 2, 0xe: 4, 0xf: 4, // u8, u16, s8, s16, s32, u32
}

func mibOf(name string) ([]int32, error) {
	var out [24 * 4]byte
	n, err := rawSysctl([]int32{0, sysctlName2ID}, out[:], []byte(name))
	if err != nil {
		return nil, err
	}
	return decodeMIB(out[:n]), nil
}

func decodeMIB(b []byte) []int32 {
	mib := make([]int32, 0, len(b)/4)
	for i := 0; i+4 <= len(b); i += 4 {
		mib = append(mib, int32(binary.NativeEndian.Uint32(b[i:])))
	}
	return mib
}

func kindOf(mib []int32) (uint32, error) {
	var buf [256]byte
	n, err := rawSysctl(append([]int32{0, sysctlFormat}, mib...), buf[:], nil)
	if err != nil {
		return 0, err
	}
	if n < 4 {
		return 0, syscall.EINVAL
	}
	return binary.NativeEndian.Uint32(buf[:]), nil
}

func nameOf(mib []int32) string {
	var buf [256]byte
	if _, err := rawSysctl(append([]int32{0, sysctlName}, mib...), buf[:], nil); err != nil {
		return fmt.Sprint(mib)
	}
	return cstring(buf[:])
}

// readSysctl returns an entry's raw value.
func readSysctl(mib []int32) ([]byte, error) {
	buf := make([]byte, 512)
	n, err := rawSysctl(mib, buf, nil)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

func writeSysctl(mib []int32, value []byte) error {
	_, err := rawSysctl(mib, nil, value)
	return err
}

// setSysctl sets an entry, by its name, to the value that a text has.
func setSysctl(name, value string) error {
	mib, err := mibOf(name)
	if err != nil {
		if errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("sysctl %s: this kernel has no such entry", name)
		}
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	kind, err := kindOf(mib)
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	if kind&kindWrite == 0 {
		return fmt.Errorf("sysctl %s: the entry is read-only", name)
	}
	var raw []byte
	if kind&kindType == kindString {
		raw = []byte(value)
	} else {
		size, ok := kindSize[kind&kindType]
		if !ok {
			return fmt.Errorf("sysctl %s: neither a number nor a string", name)
		}
		raw, err = encodeInt(value, size)
		if err != nil {
			return fmt.Errorf("sysctl %s: %q is not a number of %d bytes", name, value, size)
		}
	}
	if err := writeSysctl(mib, raw); err != nil {
		return fmt.Errorf("sysctl %s=%s: %w", name, value, err)
	}
	return nil
}

// encodeInt turns text into a native integer of the given size.
func encodeInt(text string, size int) ([]byte, error) {
	v, err := strconv.ParseInt(text, 0, size*8)
	if err != nil {
		u, uerr := strconv.ParseUint(text, 0, size*8)
		if uerr != nil {
			return nil, err
		}
		v = int64(u)
	}
	b := make([]byte, 8)
	binary.LittleEndian.PutUint64(b, uint64(v))
	return b[:size], nil
}

// sysctlEntry is a value that the agent puts back between programs.
type sysctlEntry struct {
	mib   []int32
	value []byte
}

// settings returns the writable numbers and strings below the named nodes.
func settings(roots ...string) ([]sysctlEntry, error) {
	var out []sysctlEntry
	for _, root := range roots {
		top, err := mibOf(root)
		if err != nil {
			return nil, fmt.Errorf("sysctl %s: %w", root, err)
		}
		at := top
		for {
			var buf [24 * 4]byte
			n, err := rawSysctl(append([]int32{0, sysctlNext}, at...), buf[:], nil)
			if err != nil {
				break // ENOENT: this was the last entry
			}
			at = decodeMIB(buf[:n])
			if len(at) < len(top) || !slices.Equal(at[:len(top)], top) {
				break
			}
			kind, err := kindOf(at)
			if err != nil || kind&kindWrite == 0 || kind&kindStats != 0 {
				continue
			}
			// A write sets some counters to zero, and not all of them have the flag. Those of
			// kern.epoch.stats go on counting with every program.
			if strings.Contains(nameOf(at), ".stats.") {
				continue
			}
			if _, number := kindSize[kind&kindType]; !number && kind&kindType != kindString {
				continue
			}
			v, err := readSysctl(at)
			if err != nil {
				continue // write-only, or of another network stack
			}
			out = append(out, sysctlEntry{mib: at, value: v})
		}
	}
	return out, nil
}
