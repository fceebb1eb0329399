package sink

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/zbuf-go/zbuf/internal/compression"
)

// Spec says what a sink writes.
type Spec struct {
	Format      string // Pcapng, Pcap, PcapNano, Text or JSON
	Compression compression.Kind
	Comment     string // of the whole file; only pcapng has room for one

	Lines TextOptions // how Text looks

	// Say gets a sentence for the user when the format has no place for something that is there. It
	// may get it several times. nil drops it.
	Say func(note string)
}

// say tells the user something.
func (s Spec) say(note string) {
	if s.Say != nil {
		s.Say(note)
	}
}

// extensions says which format a name asks for. A format of which a name says nothing is Pcapng.
var extensions = map[string]string{
	".pcapng": Pcapng, ".pcap": Pcap, ".cap": Pcap, ".dmp": Pcap,
}

// fits has the ends of the names that each format fits.
var fits = map[string]string{Pcapng: ".pcapng", Pcap: ".pcap", PcapNano: ".pcap"}

// others are extensions of files that no format fits, with what such a file is.
var others = map[string]string{}

// compressed are extensions of compressed files that no sink writes, or not by that name.
var compressed = map[string]bool{}

func init() {
	for what, all := range map[string]string{
		"text":                      "txt text log csv json jsonl ndjson xml pdml html md yaml yml conf",
		"an archive":                "zip 7z tar tgz rar",
		"another format of packets": "snoop erf etl 5vw ntar",
	} {
		for ext := range strings.FieldsSeq(all) {
			others["."+ext] = what
		}
	}
	for ext := range strings.FieldsSeq("gz gzip zst zstd bz2 xz lz4 lzma lzo z br") {
		compressed["."+ext] = true
	}
}

// SpecOf returns what a file of a name is to contain. The format is Pcapng, Pcap or PcapNano. If it
// is empty, the name decides. The name also decides on the compression.
//
// A name that promises something else is an error, which says which name would fit.
func SpecOf(name, format string) (Spec, error) {
	kind, rest := compression.OfName(name)
	ext := strings.ToLower(filepath.Ext(rest))
	promised := extensions[ext]
	if compressed[ext] {
		promised = extensions[strings.ToLower(filepath.Ext(strings.TrimSuffix(rest, filepath.Ext(rest))))]
	}
	s := Spec{Format: cmp.Or(format, promised, Pcapng), Compression: kind}
	end := fits[s.Format]
	switch what := others[ext]; {
	case compressed[ext]:
		return Spec{}, fmt.Errorf("%s: files are compressed with gzip or zstd, and once: "+
			"name it NAME%s.gz or NAME%[2]s.zst", name, end)
	case what != "":
		return Spec{}, fmt.Errorf("%s: the name is that of %s, and %s is written: name it NAME%s%s",
			name, what, s.Format, end, kind.Extension())
	case promised != "" && fits[promised] != end:
		return Spec{}, fmt.Errorf("%s: the name is that of %s, and %s is written: name it NAME%s%s",
			name, promised, s.Format, end, kind.Extension())
	}
	return s, nil
}
