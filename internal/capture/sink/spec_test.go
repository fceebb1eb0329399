package sink

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/compression"
)

// The name of a file decides what it contains. A format that is asked for must fit the name.
func TestNameDecidesWhatAFileContains(t *testing.T) {
	const none, gz, zst = compression.None, compression.Gzip, compression.Zstd
	for _, c := range []struct {
		name, format string
		want         string
		compression  compression.Kind
	}{
		{"x.pcapng", "", Pcapng, none},
		{"x.pcap", "", Pcap, none},
		{"x.cap", "", Pcap, none},
		{"x.dmp", "", Pcap, none},
		{"X.PCAP.GZ", "", Pcap, gz},
		{"x.pcapng.gz", "", Pcapng, gz},
		{"x.pcapng.zst", "", Pcapng, zst},
		{"/a.pcap/x.pcapng", "", Pcapng, none},
		{"x.pcap", Pcap, Pcap, none},
		{"x.pcap.zst", PcapNano, PcapNano, zst},
		{"x.pcapng", Pcapng, Pcapng, none},
		// A name that promises nothing fits every format.
		{"trace", "", Pcapng, none},
		{"trace", Pcap, Pcap, none},
		{"trace", PcapNano, PcapNano, none},
		{"trace.gz", "", Pcapng, gz},
		{"trace.zst", PcapNano, PcapNano, zst},
		{"em0.100", "", Pcapng, none},
		{"router.example.org", "", Pcapng, none},
		{"/a.txt/trace", "", Pcapng, none},
		{"-", "", Pcapng, none},
		{"-", Pcap, Pcap, none},
		{"/dev/null", "", Pcapng, none},
	} {
		got, err := SpecOf(c.name, c.format)
		require.NoError(t, err, c.name)
		assert.Equal(t, Spec{Format: c.want, Compression: c.compression}, got, "%s %s", c.name, c.format)
	}
}

// A name that promises something else is an error that says which name fits. That name does fit.
func TestNameThatDoesNotFit(t *testing.T) {
	for _, c := range []struct{ name, format, want string }{
		{"x.pcap", Pcapng,
			"x.pcap: the name is that of pcap, and pcapng is written: name it NAME.pcapng"},
		{"x.cap.gz", Pcapng,
			"x.cap.gz: the name is that of pcap, and pcapng is written: name it NAME.pcapng.gz"},
		{"x.pcapng", Pcap,
			"x.pcapng: the name is that of pcapng, and pcap is written: name it NAME.pcap"},
		{"x.pcapng.zst", PcapNano,
			"x.pcapng.zst: the name is that of pcapng, and pcap-ns is written: name it NAME.pcap.zst"},
		{"x.txt", "", "x.txt: the name is that of text, and pcapng is written: name it NAME.pcapng"},
		{"x.JSON", Pcap, "x.JSON: the name is that of text, and pcap is written: name it NAME.pcap"},
		{"x.txt.gz", "",
			"x.txt.gz: the name is that of text, and pcapng is written: name it NAME.pcapng.gz"},
		{"x.zip", "",
			"x.zip: the name is that of an archive, and pcapng is written: name it NAME.pcapng"},
		{"x.snoop", Pcap, "x.snoop: the name is that of another format of packets, " +
			"and pcap is written: name it NAME.pcap"},
		{"x.pcap.xz", "", "x.pcap.xz: files are compressed with gzip or zstd, and once: " +
			"name it NAME.pcap.gz or NAME.pcap.zst"},
		{"x.pcapng.gzip", "", "x.pcapng.gzip: files are compressed with gzip or zstd, and once: " +
			"name it NAME.pcapng.gz or NAME.pcapng.zst"},
		{"x.pcap.gz.zst", "", "x.pcap.gz.zst: files are compressed with gzip or zstd, and once: " +
			"name it NAME.pcap.gz or NAME.pcap.zst"},
	} {
		_, err := SpecOf(c.name, c.format)
		require.EqualError(t, err, c.want)
	}
}
