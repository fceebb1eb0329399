//go:build unix

package decode_test

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/internal/decode"
)

// Decoding writes nothing into the memory of a packet, not even the same bytes. The kernel and
// other readers share it.
func TestDecodingOnlyReads(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // then Packet tells it
	const size = 1 << 16
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer unix.Munmap(memory)
	for _, s := range samples(t) {
		require.NoError(t, unix.Mprotect(memory, unix.PROT_READ|unix.PROT_WRITE))
		n := copy(memory, s.data)
		require.NoError(t, unix.Mprotect(memory, unix.PROT_READ))
		for _, link := range append([]uint16{s.link}, known...) {
			check(t, link, memory[:n], n)
		}
	}
}

// A decoder that fails costs the rest of the packet, not the capture. Here it can't read the
// memory.
func TestAFailureInADecoderIsTold(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	memory, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer unix.Munmap(memory)
	assert.Equal(t, "ETHERNET, length 60 [broken ethernet: the decoder failed: runtime error: "+
		"invalid memory address or nil pointer dereference]",
		line(linkEthernet, memory[:60], 60, decode.Style{}))
}
