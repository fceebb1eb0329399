package filter

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
)

// These operands are in few programs, and tcpdump writes them like this.
func TestOperandsOfRareInstructions(t *testing.T) {
	for _, c := range []struct {
		ins  bpf.RawInstruction
		want string
	}{
		{bpf.RawInstruction{Op: 0xff, K: 7}, "0xff"},
		{bpf.RawInstruction{Op: codeJmp | jumpAlways, K: 4}, "7"},
		{bpf.RawInstruction{Op: codeJmp | jumpAlways, K: 0xffff_fffe}, "1"}, // backwards
		{bpf.RawInstruction{Op: codeALU | aluAdd, K: 16}, "#16"},
		{bpf.RawInstruction{Op: codeALU | aluLsh, K: 2}, "#2"},
	} {
		assert.Equal(t, c.want, operand(2, c.ins))
	}
}

// PPP has its own numbers for the protocols of Ethernet.
func TestProtocolsOfPPP(t *testing.T) {
	for expression, want := range map[string]string{
		"ip": "0x21", "ip6": "0x57", "decnet": "0x27", "ether proto 0x600": "0x25", "iso": "0x23",
	} {
		list := compiled(t, expression, Options{LinkType: DLTPPP})
		assert.Regexp(t, `jeq +#`+want+`\b`, list, expression)
	}
}

// A field that the link type cannot have is refused on either side of an operator.
func TestFieldsThatALinkTypeLacks(t *testing.T) {
	for _, expression := range []string{"ip[0] + len > 3", "len + ip[0] > 3", "len > ip[0]"} {
		_, err := Compile(expression, Options{LinkType: 186}) // USB
		require.Error(t, err, expression)
	}
}
