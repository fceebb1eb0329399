package payload

import (
	"fmt"
	"strings"
)

// imageAlign is the alignment of a flat image in memory.
const imageAlign = 2 << 20

// imageHeader is the size of the header of an arm64 image in the format of Linux. QEMU can start
// such an image.
const imageHeader = 64

// Flat lays out an arm64 kernel as QEMU puts it into memory. The segments are at their places. The
// header of an image replaces the ELF header at the start.
func (k *Kernel) Flat() ([]byte, error) {
	last := k.segments[len(k.segments)-1]
	image := make([]byte, last.phys+uint64(len(last.data)))
	for _, s := range k.segments {
		copy(image[s.phys:], s.data)
	}
	if k.Entry < imageHeader || k.Entry%4 != 0 || k.Entry >= 128<<20 {
		return nil, fmt.Errorf("%w: no room for a header before its entry %#x", ErrNotKernel, k.Entry)
	}
	const (
		branch   = 0x14000000 // b, with the distance in words in its low 26 bits
		anywhere = 8          // the image may lie anywhere in memory
		magic    = 0x644d5241 // ARM\x64
	)
	head := le.AppendUint32(nil, branch|uint32(k.Entry/4))
	head = le.AppendUint32(head, 0)
	head = le.AppendUint64(head, 0) // offset from a multiple of 2 MiB
	head = le.AppendUint64(head, k.end())
	head = le.AppendUint64(head, anywhere)
	head = append(head, make([]byte, 3*8)...)
	head = le.AppendUint32(head, magic)
	copy(image, le.AppendUint32(head, 0))
	return image, nil
}

// CommandLine encodes a kernel environment as the command line that a kernel without a loader
// reads. That line has no quotes.
func CommandLine(arch string, env map[string]string) (string, error) {
	words := strings.Split(strings.TrimRight(string(environment(env)), "\x00"), "\x00")
	for _, w := range words {
		if strings.ContainsAny(w, " \t\n") {
			return "", fmt.Errorf("tunable %q: on %s it may hold no spaces, as it travels in a command line",
				w, arch)
		}
	}
	line := strings.Join(words, " ")
	if arch == "arm64" {
		line = "FreeBSD: " + line
	}
	return line, nil
}
