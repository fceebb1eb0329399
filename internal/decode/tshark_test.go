package decode_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/decode"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// ofTshark says which field of an object has the value of a field of tshark, and how tshark formats
// it. The field of the object has it only if an other field has a value, such as protocol=ipv4.
var ofTshark = []struct{ tshark, field, only, format string }{
	{"eth.src", "link.src", "", "%v"},
	{"eth.dst", "link.dst", "", "%v"},
	{"vlan.id", "vlans.0.id", "", "%v"},
	{"vlan.priority", "vlans.0.priority", "", "%v"},
	{"arp.src.proto_ipv4", "arp.sender", "", "%v"},
	{"arp.dst.proto_ipv4", "arp.target", "", "%v"},
	{"arp.src.hw_mac", "arp.sender_mac", "", "%v"},
	{"ip.src", "network.src", "network.protocol=ipv4", "%v"},
	{"ip.dst", "network.dst", "network.protocol=ipv4", "%v"},
	{"ip.len", "network.length", "network.protocol=ipv4", "%v"},
	{"ip.ttl", "network.ttl", "network.protocol=ipv4", "%v"},
	{"ip.id", "network.id", "network.protocol=ipv4", "0x%04x"},
	{"ip.proto", "network.next", "network.protocol=ipv4", "%v"},
	{"ipv6.src", "network.src", "network.protocol=ipv6", "%v"},
	{"ipv6.dst", "network.dst", "network.protocol=ipv6", "%v"},
	{"ipv6.hlim", "network.ttl", "network.protocol=ipv6", "%v"},
	{"tcp.srcport", "transport.src_port", "transport.protocol=tcp", "%v"},
	{"tcp.dstport", "transport.dst_port", "transport.protocol=tcp", "%v"},
	{"tcp.seq_raw", "transport.seq", "transport.protocol=tcp", "%v"},
	{"tcp.len", "transport.length", "transport.protocol=tcp", "%v"},
	{"tcp.window_size_value", "transport.window", "transport.protocol=tcp", "%v"},
	{"udp.srcport", "transport.src_port", "transport.protocol=udp", "%v"},
	{"udp.dstport", "transport.dst_port", "transport.protocol=udp", "%v"},
	{"icmp.type", "icmp.type", "network.protocol=ipv4", "%v"},
	{"icmp.code", "icmp.code", "network.protocol=ipv4", "%v"},
	{"icmp.seq", "icmp.seq", "network.protocol=ipv4", "%v"},
	{"icmpv6.type", "icmp.type", "network.protocol=ipv6", "%v"},
	{"icmpv6.nd.ns.target_address", "icmp.target", "icmp.type=135", "%v"},
	{"icmpv6.nd.na.target_address", "icmp.target", "icmp.type=136", "%v"},
	{"dns.id", "dns.id", "", "0x%04x"},
	{"dns.a", "dns.answers.0.data", "", "%v"},
	{"dns.resp.ttl", "dns.answers.0.ttl", "", "%v"},
	{"dhcp.id", "dhcp.xid", "dhcp.version=4", "0x%08x"},
	{"dhcp.option.dhcp_server_id", "dhcp.server", "", "%v"},
	{"dhcp.option.ip_address_lease_time", "dhcp.lease", "", "%v"},
	{"dhcp.option.requested_ip_address", "dhcp.asked", "", "%v"},
	{"stp.root.cost", "stp.cost", "", "%v"},
	{"lldp.chassis.id.mac", "lldp.chassis", "", "%v"},
	{"lldp.time_to_live", "lldp.ttl", "", "%v"},
}

// at returns the value of a field of an object, or nil.
func at(object any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch o := object.(type) {
		case map[string]any:
			object = o[name]
		case []any:
			object = o[0]
		default:
			return nil
		}
	}
	if n, ok := object.(float64); ok {
		return int64(n)
	}
	return object
}

// The objects of the sample packets have the values that tshark finds in them.
func TestFieldsAreThoseOfTshark(t *testing.T) {
	if testing.Short() {
		t.Skip("the short form does not start tshark, which takes seconds")
	}
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skipf("there is no tshark to compare with: %v", err)
	}
	file := filepath.Join(t.TempDir(), "samples.pcap")
	f, err := os.Create(file)
	require.NoError(t, err)
	w := pcapio.NewPcapWriter(f, true)
	_, err = w.AddInterface(pcapio.Interface{LinkType: linkEthernet})
	require.NoError(t, err)
	all := frames(t)
	for _, s := range all {
		require.NoError(t, w.WritePacket(0, 1e9, 0, s.data, len(s.data)))
	}
	require.NoError(t, w.Flush())
	require.NoError(t, f.Close())

	args := []string{"-r", file, "-n", "-o", "ip.defragment:FALSE", "-T", "fields",
		"-E", "occurrence=f"}
	for _, o := range ofTshark {
		args = append(args, "-e", o.tshark)
	}
	out, err := exec.Command("tshark", args...).Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	require.Len(t, lines, len(all))
	found := map[string]int{}
	for i, s := range all {
		encoded, err := json.Marshal(decode.Packet(s.link, s.data, len(s.data)))
		require.NoError(t, err)
		var object any
		require.NoError(t, json.Unmarshal(encoded, &object))
		if at(object, "inner") != nil || at(object, "link.type") == int64(0x88a8) {
			continue // tshark mixes the fields of both packets, and names the outer tag differently
		}
		for j, want := range strings.Split(lines[i], "\t") {
			o, got := ofTshark[j], ""
			field, value, _ := strings.Cut(o.only, "=")
			v := at(object, o.field)
			if v != nil && (o.only == "" || fmt.Sprint(at(object, field)) == value) {
				got = fmt.Sprintf(o.format, v)
				found[o.tshark]++
			}
			assert.Equal(t, want, got, "%s: %s", s.name, o.tshark)
		}
	}
	for _, o := range ofTshark {
		assert.Positive(t, found[o.tshark], o.tshark)
	}
}
