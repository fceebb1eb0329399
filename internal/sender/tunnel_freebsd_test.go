package sender

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/internal/machine"
)

// siocAIFAddr is SIOCAIFADDR for a struct with a vhid.
const siocAIFAddr = 0x8044692b

// ifaliasreq is struct ifaliasreq with addresses of IPv4: name, address, destination, mask, vhid.
func ifaliasreq(name string, addr, dest, mask [4]byte) []byte {
	b := make([]byte, 16, 68)
	copy(b, name)
	for _, a := range [][4]byte{addr, dest, mask} {
		b = append(b, 16, unix.AF_INET, 0, 0, a[0], a[1], a[2], a[3])
		b = append(b, make([]byte, 8)...)
	}
	return b[:68]
}

// tun refuses every packet that comes with BIOCSHDRCMPLT. Without, they arrive.
func TestKernelSendOnATunnel(t *testing.T) {
	lab.OnKernel(t)
	const name = "tun0"
	tun, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
	if err != nil {
		t.Skipf("NOT RUN: this kernel has no tun(4): %v", err)
	}
	defer tun.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, ioctl(fd, siocAIFAddr, ifaliasreq(name, [4]byte{10, 99, 0, 1},
		[4]byte{10, 99, 0, 2}, [4]byte{255, 255, 255, 255})))

	for _, pipe := range []bool{false, true} {
		f := openFile(t, "testdata/null4.pcap", pipe)
		s, _, err := New(machine.Host(), name, []*File{f}, Config{Loop: 1})
		require.NoError(t, err)
		require.NoError(t, s.Run(t.Context()))
		s.Close()
		assert.EqualValues(t, 1, s.Packets)
		b := make([]byte, 100)
		n, err := tun.Read(b)
		require.NoError(t, err)
		assert.Equal(t, 28, n, "without the link header")
		assert.Equal(t, byte(0x45), b[0])
	}

	out, err := openOutlet(machine.Host(), name)
	require.NoError(t, err)
	defer out.d.Close()
	require.NoError(t, out.choose(0))
	require.NoError(t, out.d.SetHeaderComplete(true))
	_, err = out.d.Write(append([]byte{2, 0, 0, 0, 0x45}, make([]byte, 27)...))
	assert.ErrorIs(t, err, unix.EAFNOSUPPORT, "what the flag is left out for")
}
