package fanout_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/bpf/fanout"
)

// Four workers count who sends how much, each in a map of its own. Every 100 ms the program prints
// the top talkers. It reads the maps between two calls of Run, when no worker runs.
func Example_topTalkers() {
	k := bpftest.New() // leave Config.System out to use the running kernel
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k, Expression: "ip"})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	const workers = 4
	var sent [workers]map[netip.Addr]int
	for report := range 2 {
		for host := range uint16(10) {
			for range 1 + (host+uint16(report))%10 { // packets of 64 bytes from 192.0.2.host
				em0.Receive(frame(host, true, 0))
			}
		}
		for i := range sent {
			sent[i] = map[netip.Addr]int{}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		err := fanout.Run(ctx, r, fanout.Config{
			Workers: workers,
			Handle: func(worker int, packets []bpf.Packet) error {
				for _, p := range packets {
					if data := p.Data(); len(data) >= 34 {
						sent[worker][netip.AddrFrom4([4]byte(data[26:]))] += p.WireLen()
					}
				}
				return nil
			},
		})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			log.Fatal(err)
		}
		total := map[netip.Addr]int{}
		for _, m := range sent {
			for addr, bytes := range m {
				total[addr] += bytes
			}
		}
		top := slices.SortedFunc(maps.Keys(total), func(a, b netip.Addr) int {
			return cmp.Or(total[b]-total[a], a.Compare(b))
		})
		fmt.Println("report", report+1)
		for _, addr := range top[:2] {
			fmt.Println(" ", addr, total[addr], "bytes")
		}
	}
	// Output:
	// report 1
	//   192.0.2.9 640 bytes
	//   192.0.2.8 576 bytes
	// report 2
	//   192.0.2.8 640 bytes
	//   192.0.2.7 576 bytes
}
