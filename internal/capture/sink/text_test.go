package sink

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/fixture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

const linkRaw = 101

// printed returns what a format writes for packets of two interfaces, in turn.
func printed(
	t *testing.T, s Spec, interfaces []pcapio.Interface, packets ...capture.Packet,
) string {
	t.Helper()
	var b bytes.Buffer
	to := New(s, &b)
	for _, i := range interfaces {
		require.NoError(t, to.AddInterface(i))
	}
	require.NoError(t, to.Write(&capture.Batch{Packets: packets}))
	require.NoError(t, to.Finish(nil))
	return b.String()
}

var oneRaw = []pcapio.Interface{{LinkType: linkRaw}}

func TestTimes(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local = time.FixedZone("", 2*3600)
	at := func(sec, nsec int64) capture.Packet { return capture.Packet{Sec: sec, Nsec: nsec} }
	for name, c := range map[string]struct {
		times Times
		want  string
	}{
		"time of day":     {Clock, "03:46:40.000000001 03:46:41.000000000 03:46:40.500000000 02:00:00.000000000 "},
		"none":            {NoTime, ""},
		"since 1970":      {Epoch, "1000000000.000000001 1000000001.000000000 1000000000.500000000 0.000000000 "},
		"since the prior": {Delta, "00:00:00.000000000 00:00:00.999999999 -00:00:00.500000000 -277777:46:40.500000000 "},
		"date":            {Date, "2001-09-09 03:46:40.000000001 2001-09-09 03:46:41.000000000 2001-09-09 03:46:40.500000000 1970-01-01 02:00:00.000000000 "},
		"since the first": {SinceFirst, "00:00:00.000000000 00:00:00.999999999 00:00:00.499999999 -277777:46:40.000000001 "},
	} {
		t.Run(name, func(t *testing.T) {
			got := printed(t, Spec{Format: Text, Lines: TextOptions{Times: c.times}}, oneRaw,
				at(1e9, 1), at(1e9+1, 0), at(1e9, 5e8), at(0, 0))
			const nothing = "DATA, length 0 [broken ip: neither IPv4 nor IPv6]\n"
			assert.Equal(t, 4, strings.Count(got, nothing))
			assert.Equal(t, c.want, strings.ReplaceAll(got, nothing, ""))
		})
	}
}

// Each time stamp that a file can have has its line, in order or not.
func TestTimesFarApart(t *testing.T) {
	for times := Clock; times <= SinceFirst; times++ {
		got := printed(t, Spec{Format: Text, Lines: TextOptions{Times: times}}, oneRaw,
			capture.Packet{Sec: math.MaxInt64 / 1_000_000_000}, capture.Packet{},
			capture.Packet{Sec: math.MaxUint32})
		assert.Equal(t, 3, strings.Count(got, "\n"))
	}
}

// A line names the interface if there are several.
func TestLinesNameTheInterface(t *testing.T) {
	spec := Spec{Format: Text, Lines: TextOptions{Times: NoTime}}
	one := printed(t, spec, []pcapio.Interface{{Name: "em0", LinkType: 1}},
		fixture.Packets(t, 1, 60)...)
	assert.NotContains(t, one, "em0")
	two := printed(t, spec, []pcapio.Interface{{Name: "em0", LinkType: 1}, {LinkType: linkRaw}},
		capture.Packet{}, capture.Packet{Interface: 1})
	lines := strings.Split(two, "\n")
	assert.Regexp(t, "^em0 ETHERNET", lines[0])
	assert.Regexp(t, "^1 DATA", lines[1], "without a name, it is a number")
}

// A name that a file has can't make a terminal do anything.
func TestPrintedNamesAreEscaped(t *testing.T) {
	const name = "\x1b]0;owned\aem0\n\u009b31m\x7f"
	for _, format := range []string{Text, JSON} {
		got := printed(t, Spec{Format: format, Lines: TextOptions{Times: NoTime}},
			[]pcapio.Interface{{Name: name}, {}}, capture.Packet{})
		assert.NotContains(t, strings.TrimSuffix(got, "\n"), "\n")
		if format == JSON {
			var r struct{ Interface string }
			require.NoError(t, json.Unmarshal([]byte(got), &r))
			got = r.Interface + " "
		}
		assert.True(t, strings.HasPrefix(got, `\x1b]0;owned\aem0\n\u009b31m\x7f `), got)
	}
}

func TestHex(t *testing.T) {
	p := capture.Packet{WireLen: 19, Data: []byte("\x45\x00\x00\x13\x00\x00\x00\x00\x40\xfd\x00\x00" +
		"\x01\x02\x03\x04abc")}
	for name, c := range map[string]struct {
		o    TextOptions
		want string
	}{
		"bytes":      {TextOptions{Hex: 1}, "\t0x0000:  4500 0013 0000 0000 40fd 0000 0102 0304\n\t0x0010:  6162 63\n"},
		"characters": {TextOptions{ASCII: 1}, "\t0x0000:  4500 0013 0000 0000 40fd 0000 0102 0304  E.......@.......\n\t0x0010:  6162 63                                  abc\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Times = NoTime
			_, dump, _ := strings.Cut(printed(t, Spec{Format: Text, Lines: c.o}, oneRaw, p), "\n")
			assert.Equal(t, c.want, dump)
		})
	}
}

// JSON has the fields that docs/bpfctl.md promises, in one line.
func TestJSONOfAPacket(t *testing.T) {
	p := capture.Packet{Sec: 1700000000, Nsec: 5, WireLen: 40, Data: []byte("\x45\x00\x00\x1c" +
		"\x00\x07\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02" +
		"\x00\x01\x00\x02\x00\x08\x00\x00")}
	got := printed(t, Spec{Format: JSON}, []pcapio.Interface{{Name: "tun0", LinkType: linkRaw}}, p)
	assert.Equal(t, `{"time":"2023-11-14T22:13:20.000000005Z","interface":"tun0","link_type":"RAW",`+
		`"captured":28,"length":40,"protocols":["ipv4","udp"],"network":{"protocol":"ipv4",`+
		`"src":"10.0.0.1","dst":"10.0.0.2","length":28,"ttl":64,"tos":0,"id":7,"next":17,`+
		`"checksum":"bad"},"transport":{"protocol":"udp","src_port":1,"dst_port":2,`+
		`"length":0}}`+"\n", got)
}
