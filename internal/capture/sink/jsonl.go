package sink

import (
	"bufio"
	"encoding/json"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// JSONL is the name of the format with a JSON object in a line for each packet.
const JSONL = "jsonl"

var _ = register(JSONL, func(w *bufio.Writer) format { return &jsonl{enc: json.NewEncoder(w)} })

// jsonl has what text has, for programs that read it.
type jsonl struct {
	enc   *json.Encoder
	names []string
}

func (f *jsonl) addInterface(i pcapio.Interface) error {
	f.names = append(f.names, i.Name)
	return nil
}

func (f *jsonl) packet(iface int, p bpf.Packet) error {
	sec, nsec := p.Timestamp()
	return f.enc.Encode(struct {
		Sec       int64  `json:"sec"`
		Nsec      int64  `json:"nsec"`
		Interface string `json:"interface"`
		Captured  int    `json:"captured"`
		Wire      int    `json:"wire"`
	}{sec, nsec, f.names[iface], p.CapLen(), p.WireLen()})
}

func (f *jsonl) finish([]pcapio.Statistics) error { return nil }
