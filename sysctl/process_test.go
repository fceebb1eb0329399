package sysctl

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

func kinfoProc(size, pid, comm int, name string) []byte {
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, uint32(size))
	binary.NativeEndian.PutUint32(b[pid:], 77)
	copy(b[comm:], name)
	return b
}

func TestParseKinfoProc(t *testing.T) {
	for size, l := range kinfoProcLayouts {
		pid, comm, err := parseKinfoProc(kinfoProc(int(size), l.pid, l.comm, "tcpdump"))
		require.NoError(t, err)
		require.Equal(t, int32(77), pid)
		require.Equal(t, "tcpdump", comm)
		_, comm, err = parseKinfoProc(kinfoProc(int(size), l.pid, l.comm, "0123456789012345678901234567"))
		require.NoError(t, err)
		require.Equal(t, "01234567890123456789", comm, "no NUL: nothing behind the field")
		_, _, err = parseKinfoProc(kinfoProc(int(size), l.pid, l.comm, "x")[:size-1])
		require.ErrorIs(t, err, ErrType)
	}
	for _, b := range [][]byte{nil, {0, 0, 0}, make([]byte, 1088), kinfoProc(1096, 72, 447, "x")} {
		_, _, err := parseKinfoProc(b)
		require.ErrorIs(t, err, ErrType)
	}
}

func FuzzParseKinfoProc(f *testing.F) {
	f.Add([]byte{})
	for size, l := range kinfoProcLayouts {
		f.Add(kinfoProc(int(size), l.pid, l.comm, "bpfctl"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, comm, err := parseKinfoProc(b)
		if err != nil {
			require.ErrorIs(t, err, ErrType)
			require.Empty(t, comm)
		}
		require.LessOrEqual(t, len(comm), commLen+1)
	})
}
