package program

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
)

// FuzzRead: what is read as a filter is one, and is the same when it is printed as tcpdump does.
func FuzzRead(f *testing.F) {
	f.Add("1\n6 0 0 262144\n")
	f.Add(" 2 \r\n40 0 0 12\r\n\n6 0 0 0")
	f.Add("-1\n6 0 0 4294967296\n")
	f.Fuzz(func(t *testing.T, text string) {
		prog, err := parse(strings.NewReader(text))
		if err != nil {
			return
		}
		require.NotEmpty(t, prog)
		require.NoError(t, zbuf.Validate(prog))
		var b strings.Builder
		fmt.Fprintln(&b, len(prog))
		for _, i := range prog {
			fmt.Fprintln(&b, i.Op, i.Jt, i.Jf, i.K)
		}
		again, err := parse(strings.NewReader(b.String()))
		require.NoError(t, err)
		require.Equal(t, prog, again)
	})
}

// A program of Linux' can't be right here. It is refused by the name of what it asks for.
func TestProgramsForLinuxAreRefused(t *testing.T) {
	_, err := Read("testdata/lv")
	require.EqualError(t, err, "testdata/lv: instruction 0 loads vlan_avail "+
		"(SKF_AD_VLAN_TAG_PRESENT), which only Linux has: "+
		"run `tcpdump -ddd` on FreeBSD, or with -r on a file of the same link type")
	for _, c := range []struct {
		op   uint16
		k    uint32
		want string
	}{
		{0x20, 0xfffff000, "proto (SKF_AD_PROTOCOL)"},
		{0x28, 0xfffff02c, "vlan_tci (SKF_AD_VLAN_TAG)"},
		{0x30, 0xfffff03c, "vlan_tpid (SKF_AD_VLAN_TPID)"},
		{0x20, 0xfffff040, "Linux' own data at 0xfffff040 (SKF_AD_OFF+64)"},
		{0x20, 0xffffffff, "Linux' own data at 0xffffffff (SKF_AD_OFF+4095)"},
		{0x30, 0xfff00009, "bytes relative to the network header (SKF_NET_OFF)"},
		{0xb1, 0xfff00000, "bytes relative to the network header (SKF_NET_OFF)"},
		{0x28, 0xffe0000c, "bytes relative to the link header (SKF_LL_OFF)"},
		{0x28, 0xffdfffff, ""},
		{0x40, 0xffffffff, ""}, // x + k wraps, and is an offset like any other
		{0x00, 0xfffff02c, ""}, // a number, not a load from the packet
		{0x54, 0xfffff000, ""},
	} {
		_, err := parse(strings.NewReader(fmt.Sprintf("3\n%d 0 0 %d\n6 0 0 1\n6 0 0 0\n", c.op, c.k)))
		if c.want == "" {
			assert.NoError(t, err, "%#x %#x", c.op, c.k)
		} else {
			assert.ErrorContains(t, err, "instruction 0 loads "+c.want+", which only Linux has")
		}
	}
}
