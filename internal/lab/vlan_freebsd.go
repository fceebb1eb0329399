package lab

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// CreateVLAN makes a vlan on an interface and returns its name.
func CreateVLAN(parent string, tag uint16) (string, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(s)
	name, err := Create("vlan")
	if err != nil {
		return "", err
	}
	req := make([]byte, unix.IFNAMSIZ, unix.IFNAMSIZ+4) // struct vlanreq
	copy(req, parent)
	req = append(binary.NativeEndian.AppendUint16(req, tag), 0, 0)
	return name, ioctlData(s, unix.SIOCSIFGENERIC, name, req) // SIOCSETVLAN
}

// NewVLANs makes vlans on A of a pair, with the tags from 1 on. They are up until the test ends.
func NewVLANs(t testing.TB, w World, p *Pair, n int) (names []string) {
	t.Helper()
	for i := range n {
		name, err := CreateVLAN(p.A, uint16(i+1))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, w.Destroy(name)) })
		require.NoError(t, w.SetUp(name, true))
		names = append(names, name)
	}
	return names
}

// Tagged returns an Ethernet frame as it comes in for the vlan of a tag.
func Tagged(tag uint16, frame []byte) []byte {
	head := binary.BigEndian.AppendUint16(append(bytes.Clone(frame[:12]), 0x81, 0), tag)
	return append(head, frame[12:]...)
}
