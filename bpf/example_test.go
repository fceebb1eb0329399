package bpf_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// A kernel in memory with one interface, and a packet on it, for the examples with output.
func exampleKernel() *bpftest.Kernel {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	return k
}

// The loop that most programs want. ErrCorrupt does not end it.
func ExampleReader_Packets() {
	k := exampleKernel() // leave Config.System out to use the running kernel
	r, err := bpf.Open("em0", bpf.Config{System: k, Immediate: true})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	k.Interface("em0").Receive(make([]byte, 60))
	k.Interface("em0").Receive(make([]byte, 90))
	for p, err := range r.Packets(context.Background()) {
		switch {
		case errors.Is(err, bpf.ErrCorrupt):
			log.Print(err) // the loop goes on with the next buffer
		case err != nil:
			fmt.Println(err) // the loop is over
		default:
			fmt.Println(p.CapLen(), "of", p.WireLen(), "bytes")
			if p.WireLen() == 90 {
				r.Close()
			}
		}
	}
	// Output:
	// 60 of 60 bytes
	// 90 of 90 bytes
	// bpf: file already closed
}

func Example() {
	k := exampleKernel() // leave Config.System out to use the running kernel
	r, err := bpf.Open("em0", bpf.Config{System: k})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	k.Interface("em0").Receive(make([]byte, 60))

	lease, err := r.Lease(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for p := range lease.Packets() {
		fmt.Println(p.CapLen(), "of", p.WireLen(), "bytes")
	}
	lease.Release() // the packets are gone from here on
	// Output: 60 of 60 bytes
}

// An expression of pcap-filter(7) is in force from the first packet on.
func ExampleReader_SetExpression() {
	k := exampleKernel()
	r, err := bpf.Open("em0", bpf.Config{System: k, Expression: "arp", Immediate: true})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	k.Interface("em0").Receive(make([]byte, 60)) // no ARP
	if err := r.SetExpression("greater 100", false); err != nil {
		log.Fatal(err)
	}
	k.Interface("em0").Receive(make([]byte, 60))
	k.Interface("em0").Receive(make([]byte, 120))
	data, _, err := r.ReadPacket(context.Background())
	fmt.Println(len(data), err)
	fmt.Println(r.SetExpression("greater", false))
	// Output:
	// 120 <nil>
	// bpf: configuration: Expression: filter: the expression ends where "greater" needs its argument
	//   greater
	//          ^
	//   expected: a number
	//   write: greater 100, or len >= … for an arithmetic expression
}

// A program changes the filter while it captures. After a packet to port 4444, it wants everything
// that has to do with the sender. With flush, no packet comes that was captured before.
func ExampleReader_SetExpression_whileCapturing() {
	k := exampleKernel()
	r, err := bpf.Open("em0", bpf.Config{System: k, Expression: "udp port 4444", Immediate: true})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	k.Interface("em0").Receive(datagram(1, 53))   // not yet
	k.Interface("em0").Receive(datagram(1, 4444)) // the first
	k.Interface("em0").Receive(datagram(2, 4444)) // captured before the change
	for p, err := range r.Packets(context.Background()) {
		if err != nil {
			fmt.Println(err)
			break
		}
		host, port := p.Data()[29], int(p.Data()[36])<<8|int(p.Data()[37])
		fmt.Printf("192.0.2.%d to port %d\n", host, port)
		switch port {
		case 4444:
			if err := r.SetExpression(fmt.Sprintf("host 192.0.2.%d", host), true); err != nil {
				log.Fatal(err)
			}
			k.Interface("em0").Receive(datagram(2, 4444)) // another host
			k.Interface("em0").Receive(datagram(1, 53))
		case 53:
			r.Close()
		}
	}
	// Output:
	// 192.0.2.1 to port 4444
	// 192.0.2.1 to port 53
	// bpf: file already closed
}

// datagram is a UDP datagram of 192.0.2.host.
func datagram(host, port uint16) []byte {
	p := make([]byte, 60)
	p[12] = 0x08            // IPv4
	p[14], p[23] = 0x45, 17 // UDP
	copy(p[26:], []byte{192, 0, 2, byte(host), 198, 51, 100, 1})
	p[36], p[37] = byte(port>>8), byte(port)
	return p
}

// Auto takes the mode that the kernel grants. Mode returns it.
func ExampleReader_Mode() {
	k := bpftest.New() // net.bpf.zerocopy_enable is 0, as on a fresh FreeBSD
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	mode, reason := r.Mode()
	fmt.Println(mode)
	fmt.Println(errors.Is(reason, bpf.ErrZeroCopyRefused))
	// Output:
	// buffered
	// true
}

func ExampleReader_SetReadDeadline() {
	r, err := bpf.Open("em0", bpf.Config{System: exampleKernel()})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	r.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, _, err = r.ReadPacket(context.Background())
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))
	// Output: true
}

// A cursor goes over a lease packet by packet, for loops that are not a range.
func ExampleLease_Cursor() {
	k := exampleKernel()
	r, err := bpf.Open("em0", bpf.Config{System: k})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for n := range 3 {
		k.Interface("em0").Receive(make([]byte, 60+n))
	}
	lease, err := r.Lease(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer lease.Release()
	c := lease.Cursor()
	for c.Next() {
		fmt.Println(c.Packet().CapLen())
	}
	if err := c.Err(); err != nil {
		log.Fatal(err)
	}
	r.Count(&c)
	// Output:
	// 60
	// 61
	// 62
}

// The example captures ARP only, at most 64 bytes of each packet. The filter is in force before the
// first one.
func ExampleConfig() {
	arp, err := xbpf.Assemble([]xbpf.Instruction{
		xbpf.LoadAbsolute{Off: 12, Size: 2},
		xbpf.JumpIf{Cond: xbpf.JumpEqual, Val: 0x0806, SkipFalse: 1},
		xbpf.RetConstant{Val: 1 << 16},
		xbpf.RetConstant{Val: 0},
	})
	if err != nil {
		log.Fatal(err)
	}
	r, err := bpf.Open("em0", bpf.Config{
		Mode:        bpf.ZeroCopy, // an error rather than read(2)
		BufferSize:  2 << 20,
		SnapLen:     64,
		Filter:      arp,
		ReadTimeout: 10 * time.Millisecond,
		Clock:       bpf.Monotonic,
		System:      exampleKernel(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	fmt.Println(r.BufferSize())
	// Output: 2097152
}

// A daemon that has set everything up gives the rest away.
func ExampleReader_Sandbox() {
	r, err := bpf.Open("em0", bpf.Config{Promiscuous: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Sandbox(bpf.Sandbox{Enter: true}); err != nil {
		log.Fatal(err)
	}
	for {
		data, info, err := r.ZeroCopyReadPacketData()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(info.Time(), len(data)) // data is valid until the next call
	}
}
