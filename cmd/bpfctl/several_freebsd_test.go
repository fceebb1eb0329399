package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// A capture on two interfaces has every packet of both, by time. When one of them goes, the other
// goes on.
func TestKernelSeveralInterfaces(t *testing.T) {
	for _, mode := range []string{"zerocopy", "buffered"} {
		t.Run(mode, func(t *testing.T) {
			w, one := kernel(t, 1)
			two := lab.NewPair(t, w)
			out := filepath.Join(t.TempDir(), "out.pcapng")
			p := start(t, nil, "capture", "-i", one.A+","+two.A, "--mode", mode, "-w", out)
			p.capturing()
			const bursts, burst = 20, 25
			for n := 0; n < bursts*burst; n += burst {
				one.Inject(t, frames(n, burst)...)
				two.Inject(t, frames(n, burst)...)
			}
			p.until("the packets of both are in the file", func() bool {
				return whole(out) == 2*bursts*burst
			})
			two.Close()
			require.NoError(t, w.Destroy(two.A))
			p.until("the end of one is said", func() bool {
				return bytes.Contains([]byte(p.said()), []byte("bpfctl: "+two.A+
					" has gone: destroyed, or moved to another vnet; the others go on\n"))
			})
			one.Inject(t, frames(bursts*burst, burst)...)
			p.until("the other goes on", func() bool { return whole(out) == (2*bursts+1)*burst })
			require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
			require.Equal(t, exitOK, p.exit(), p.said())
			t.Log(p.said())

			got := readPcapng(t, out)
			require.Len(t, got.ifaces, 2)
			next := make([]int, 2)
			behind := 0
			for i, pkt := range got.packets {
				n := pkt.Interface
				require.Equal(t, frames(next[n], 1)[0], pkt.Data, "packet %d", i)
				next[n]++
				if i > 0 && pkt.Time.Before(got.packets[i-1].Time) {
					behind++
				}
			}
			assert.Equal(t, []int{(bursts + 1) * burst, bursts * burst}, next)
			for i, pair := range []*lab.Pair{one, two} {
				assert.Equal(t, pair.A, got.ifaces[i].Name)
				assert.EqualValues(t, next[i], got.ifaces[i].Statistics.PacketsReceived)
				assert.Zero(t, got.ifaces[i].Statistics.PacketsDropped)
			}
			assert.Equal(t, behind > 0, bytes.Contains([]byte(p.said()), []byte(" late: ")),
				"%d packets are behind later ones", behind)
		})
	}
}
