package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync/atomic"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/bpf/fanout"
)

// Each worker counts the bytes of its flows in a separate map, without a lock.
func ExampleRun() {
	// Leave Config.System out to use the running kernel.
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for i := range uint32(1000) {
		em0.Receive(frame(uint16(i%10), i%2 == 0, i))
	}

	const workers = 4
	var flows [workers]map[uint32]int
	for i := range flows {
		flows[i] = map[uint32]int{}
	}
	r.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	err = fanout.Run(context.Background(), r, fanout.Config{
		Workers: workers,
		Handle: func(worker int, packets []bpf.Packet) error {
			for _, p := range packets {
				flows[worker][fanout.FlowHash(r.LinkType(), p.Data())] += p.WireLen()
			}
			return nil
		},
	})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		log.Fatal(err)
	}
	n, bytes := 0, 0
	for _, m := range flows {
		n += len(m)
		for _, b := range m {
			bytes += b
		}
	}
	fmt.Println(n, "flows,", bytes, "bytes")
	// Output: 10 flows, 64000 bytes
}

// A program can choose the hash. This one sends ARP to worker 0, and everything else to the others.
func ExampleConfig() {
	r, err := bpf.Open("em0", bpf.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	const workers = 4
	var arp, others atomic.Int64
	err = fanout.Run(context.Background(), r, fanout.Config{
		Workers: workers,
		Hash: func(linkType uint32, packet []byte) uint32 {
			if linkType == zbuf.DLT_EN10MB && len(packet) >= 14 && packet[12] == 0x08 && packet[13] == 0x06 {
				return 0
			}
			return 1 + fanout.FlowHash(linkType, packet)%(workers-1)
		},
		Handle: func(worker int, packets []bpf.Packet) error {
			if worker == 0 {
				arp.Add(int64(len(packets)))
			} else {
				others.Add(int64(len(packets)))
			}
			return nil
		},
	})
	log.Fatal(err)
}
