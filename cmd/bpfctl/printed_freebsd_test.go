package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// On lo0 the kernel puts the address family in front of each packet. The kernel's own IP headers
// become lines and objects: a datagram, and the ICMP error that nobody wants it.
func TestKernelPrintsPackets(t *testing.T) {
	w := lab.OnKernel(t)
	lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 1)
	for _, address := range []string{"127.0.0.1", "::1"} {
		t.Run(address, func(t *testing.T) {
			from, err := net.ListenPacket("udp", net.JoinHostPort(address, "0"))
			if err != nil {
				t.Skipf("lo0 has no address %s here: %v", address, err)
			}
			defer from.Close()
			src := from.LocalAddr().(*net.UDPAddr).Port
			const dst = 9
			to, err := net.ResolveUDPAddr("udp", net.JoinHostPort(address, fmt.Sprint(dst)))
			require.NoError(t, err)
			ask := func(flag string) string {
				var stdout strings.Builder
				p := start(t, func(c *exec.Cmd) { c.Stdout = &stdout }, "capture", "-i", "lo0", "-c", "2", flag,
					"udp or icmp or icmp6") // the end of another test's connection may come late
				p.capturing()
				_, err := from.WriteTo([]byte("hello"), to)
				require.NoError(t, err)
				require.Equal(t, exitOK, p.exit(), p.said())
				t.Log(stdout.String())
				return stdout.String()
			}
			flow := fmt.Sprintf("%s.%d > %s.%d", address, src, address, dst)
			version, icmp := "IP", "ICMP "
			if strings.Contains(address, ":") {
				version, icmp = "IP6", "ICMP6, "
			}
			quoted := regexp.QuoteMeta(flow)
			assert.Regexp(t, fmt.Sprintf(
				`^%s %s: UDP, length 5\n%s %s > %s: %sport unreachable \[%s udp\], length \d+\n$`,
				version, quoted, version, address, address, icmp, quoted), ask("-t"))

			first, _, _ := strings.Cut(ask("--json"), "\n")
			var got struct {
				Interface string
				LinkType  string `json:"link_type"`
				Network   struct{ Src, Dst string }
				Transport struct {
					SrcPort int `json:"src_port"`
					DstPort int `json:"dst_port"`
					Length  int
				}
			}
			require.NoError(t, json.Unmarshal([]byte(first), &got), first)
			assert.Equal(t, []any{"lo0", "NULL", address, address, src, dst, 5}, []any{
				got.Interface, got.LinkType, got.Network.Src, got.Network.Dst,
				got.Transport.SrcPort, got.Transport.DstPort, got.Transport.Length,
			})
		})
	}
}
