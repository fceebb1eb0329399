package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// radio is a machine with an interface that has frames of 802.11 beside those of Ethernet.
func radio() *machine.Machine {
	k := bpftest.New()
	k.AddInterface("wlan0", zbuf.DLT_EN10MB, bpftest.AlsoDLT(zbuf.DLT_IEEE802_11_RADIO, 24))
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	return &machine.Machine{
		BPF: k, Sysctl: scenario.Sysctls(k), Stop: func() {},
		Interfaces: func() ([]machine.Interface, error) { return nil, nil },
	}
}

// -y takes another link type of an interface. The expression is one of that type.
func TestLinkTypeOfACapture(t *testing.T) {
	capture := func(args ...string) (code int, said string) {
		var stderr bytes.Buffer
		args = append([]string{"capture", "--duration", "20ms"}, args...)
		code = runOn(&target{host: radio}, args, nil, &bytes.Buffer{}, &stderr)
		return code, stderr.String()
	}
	out := filepath.Join(t.TempDir(), "out.pcapng")
	for _, name := range []string{"IEEE802_11_RADIO", "ieee802_11_radio", "127"} {
		code, said := capture("-i", "wlan0", "-y", name, "-w", out, "type mgt")
		require.Equal(t, exitOK, code, said)
		assert.EqualValues(t, 127, readPcapng(t, out).ifaces[0].LinkType)
	}
	code, said := capture("-i", "wlan0", "-w", out)
	require.Equal(t, exitOK, code, said)
	assert.EqualValues(t, 1, readPcapng(t, out).ifaces[0].LinkType, "without -y")

	code, said = capture("-i", "wlan0,em0", "-y", "IEEE802_11_RADIO")
	assert.Equal(t, exitFail, code)
	assert.Equal(t, "bpfctl: em0 offers EN10MB, not IEEE802_11_RADIO (`bpfctl info` lists the link "+
		"types)\n", said)
	code, said = capture("-i", "wlan0", "-y", "PFLOG")
	assert.Equal(t, exitFail, code)
	assert.Equal(t, "bpfctl: wlan0 offers EN10MB and IEEE802_11_RADIO, not PFLOG "+
		"(`bpfctl info` lists the link types)\n", said)
	code, said = capture("-i", "wlan0", "--link-type", "radiotap")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, said,
		`bpfctl: --link-type: "radiotap" is neither a number nor a name of bpf(4)`)
	code, said = capture("--replay", out, "-y", "PFLOG")
	assert.Equal(t, exitUsage, code)
	assert.Equal(t, "bpfctl: --link-type is for interfaces: a file says the link type of its "+
		"packets\n", said)
}
