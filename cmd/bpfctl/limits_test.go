package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

// A small file must not be able to ask for all of the machine's memory.
func TestReplayLimitsMemory(t *testing.T) {
	f := capgen.Format{Pcapng: true}
	was := capgen.Interfaces
	defer func() { capgen.Interfaces = was }()
	capgen.Interfaces = nil
	var packets []capgen.Packet
	for i := range 5000 {
		capgen.Interfaces = append(capgen.Interfaces, capgen.Interface{Name: "x", LinkType: 1})
		p := sized(10)
		p.Interface = i
		packets = append(packets, p)
	}
	code, _, stderr := bpfctl(t, "capture", "--replay", writeFile(t, f, packets))
	assert.Equal(t, exitFail, code)
	assert.Contains(t, stderr, "too many interfaces with packets")

	requireSame(t, packets[:500], readPcapng(t, replayed(t, writeFile(t, f, packets[:500]))).packets)
}
