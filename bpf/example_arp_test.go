package bpf_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// An ARP watcher says which hardware address answers for an IP address, and when that changes.
func Example_arpWatcher() {
	k := bpftest.New() // leave Config.System out to use the running kernel
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k, Expression: "arp", Immediate: true})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for _, host := range []byte{1, 2, 1} {
		k.Interface("em0").Receive(arp(arpAnswer, host, 99))
	}
	moved := arp(arpAnswer, 2, 99)
	moved[27] = 0xbb // the last byte of the sender's hardware address
	k.Interface("em0").Receive(moved)

	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	known := map[netip.Addr]string{}
	for p, err := range r.Packets(ctx) {
		switch {
		case errors.Is(err, bpf.ErrCorrupt):
			log.Print(err)
		case errors.Is(err, context.DeadlineExceeded):
			fmt.Println(len(known), "addresses")
		case err != nil:
			log.Fatal(err)
		case p.CapLen() >= arpLength:
			data := p.Data()
			ip, mac := netip.AddrFrom4([4]byte(data[28:])), net.HardwareAddr(data[22:28]).String()
			if old := known[ip]; old == "" {
				fmt.Println(ip, "is at", mac)
			} else if old != mac {
				fmt.Println(ip, "moved from", old, "to", mac)
			}
			known[ip] = mac // a string: the packet's memory is valid in this turn only
		}
	}
	// Output:
	// 192.0.2.1 is at 02:00:00:00:00:01
	// 192.0.2.2 is at 02:00:00:00:00:02
	// 192.0.2.2 moved from 02:00:00:00:00:02 to 02:00:00:00:00:bb
	// 2 addresses
}

// A program asks, and waits for the answer until a deadline. Direction In keeps its own request
// away.
func Example_requestAndAnswer() {
	k := bpftest.New() // leave Config.System out to use the running kernel
	var em0 *bpftest.Interface
	em0 = k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.Output(func(request []byte) error {
		if request[41] == 2 { // of the hosts, 192.0.2.2 alone is there
			em0.Receive(arp(arpAnswer, 2, request[31]))
		}
		return nil
	}))
	r, err := bpf.Open("em0", bpf.Config{System: k, Immediate: true, Direction: bpf.In,
		Expression: "arp[6:2] = 2"}) // answers
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for _, host := range []byte{2, 3} {
		if err := r.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			log.Fatal(err)
		}
		if _, err := r.Write(arp(arpRequest, 99, host)); err != nil {
			log.Fatal(err)
		}
		for {
			data, _, err := r.ReadPacket(context.Background())
			if err != nil {
				fmt.Println(host, err)
				break
			}
			if len(data) >= arpLength && data[31] == host { // not a late answer to another request
				fmt.Println(host, net.HardwareAddr(data[22:28]))
				break
			}
		}
	}
	// Output:
	// 2 02:00:00:00:00:02
	// 3 bpf: i/o timeout
}

const (
	arpRequest, arpAnswer = 1, 2
	arpLength             = 14 + 28
)

// arp is what 192.0.2.from sends to ask who has 192.0.2.to, or to answer.
func arp(op, from, to byte) []byte {
	sender := []byte{2, 0, 0, 0, 0, from}
	p := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, sender...)
	p = append(p, 0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, op)
	p = append(append(p, sender...), 192, 0, 2, from)
	return append(p, 0, 0, 0, 0, 0, 0, 192, 0, 2, to)
}
