package sink

import (
	"bufio"
	"encoding/json"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/decode"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// JSON is the name of the format with a JSON object for each packet, one a line. docs/bpfctl.md
// describes the fields.
const JSON = "json"

var _ = register(JSON, func(w *bufio.Writer, _ Spec) format {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // nobody shows it as HTML
	return &jsonLines{out: e}
})

type jsonLines struct {
	out    *json.Encoder
	ifaces []named
}

// record is a line.
type record struct {
	Time      string `json:"time"` // RFC 3339, UTC
	Interface string `json:"interface"`
	LinkType  string `json:"link_type"`
	Captured  int    `json:"captured"` // bytes
	Length    int    `json:"length"`   // bytes on the wire
	*decode.Summary
}

func (f *jsonLines) addInterface(i pcapio.Interface) error {
	f.ifaces = append(f.ifaces, nameOf(i, len(f.ifaces)))
	return nil
}

func (f *jsonLines) packet(p capture.Packet) error {
	i := f.ifaces[p.Interface]
	return f.out.Encode(record{
		Time:      time.Unix(p.Sec, p.Nsec).UTC().Format("2006-01-02T15:04:05.000000000Z"),
		Interface: i.name, LinkType: zbuf.DLTName(zbuf.LinkTypeToDLT(i.linkType)),
		Captured: len(p.Data), Length: p.WireLen,
		Summary: decode.Packet(i.linkType, p.Data, p.WireLen),
	})
}

func (f *jsonLines) finish([]pcapio.Statistics) error { return nil }
