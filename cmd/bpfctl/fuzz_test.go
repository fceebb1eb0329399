package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/capgen"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// FuzzReplay replays files of any bytes. Exactly the whole packets come out. If the file does not
// end behind them, an error does too. Coverage is never the same twice with goroutines at work, so
// run it with -fuzzminimizetime 1x.
func FuzzReplay(f *testing.F) {
	for i, format := range formats() {
		packets := capgen.Packets(5, format, format.Pcapng, uint64(i))
		for i := range packets {
			packets[i].Data = packets[i].Data[:min(len(packets[i].Data), 20)]
		}
		var b bytes.Buffer
		require.NoError(f, capgen.Write(&b, format, packets))
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		var want []capgen.Packet
		r, err := pcapio.NewReader(bytes.NewReader(file))
		for err == nil {
			var p pcapio.Packet
			if p, err = r.Next(); err == nil {
				want = append(want, capgen.Packet{Interface: p.Interface, Time: p.Time,
					Data: bytes.Clone(p.Data), WireLen: p.WireLen})
			}
		}
		var stdout bytes.Buffer
		rerr := replayTo(&stdout, file)
		if stdout.Len() == 0 { // the file has no head
			require.NotEqual(t, io.EOF, err)
			require.Error(t, rerr)
			return
		}
		got, perr := parsePcapng(&stdout)
		require.NoError(t, perr)
		requireSame(t, want, got.packets)
		require.Equal(t, err == io.EOF, rerr == nil, "%v; %v", err, rerr)
	})
}

// replayTo is capture --replay - -w - --bufsize 4096, without the command line: cobra keeps every
// one that ever was.
func replayTo(stdout io.Writer, file []byte) error {
	return replayWith(stdout, file, bpf.Config{BufferSize: 4096})
}
