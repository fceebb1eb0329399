package packet_test

import (
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/packet"
)

// A program asks for a service with a frame to every host, and waits for answers until a deadline.
func Example() {
	k := bpftest.New() // leave Config.System out to use the running kernel
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.HardwareAddr([6]byte{2, 0, 0, 0, 0, 1}))
	em1 := k.AddInterface("em1", zbuf.DLT_EN10MB, bpftest.HardwareAddr([6]byte{2, 0, 0, 0, 0, 2}))
	bpftest.Pair(em0, em1)
	ifi := func(name string, last byte) *net.Interface { // net.InterfaceByName on a running kernel
		return &net.Interface{Name: name, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, last}}
	}
	const experiment = 0x88b5 // an EtherType for experiments

	server, err := packet.Listen(ifi("em1", 2), packet.Datagram, experiment, &packet.Config{System: k})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 1500)
		n, client, err := server.ReadFrom(buf)
		if err == nil {
			_, err = server.WriteTo(append([]byte("I am here, "), buf[:n]...), client)
		}
		if err != nil {
			log.Print(err)
		}
	}()

	c, err := packet.Listen(ifi("em0", 1), packet.Datagram, experiment, &packet.Config{System: k})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	everybody := &packet.Addr{HardwareAddr: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	if _, err := c.WriteTo([]byte("em0"), everybody); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 1500)
	// The first answer may take its time. Others come soon after it.
	for wait := 10 * time.Second; ; wait = 100 * time.Millisecond {
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			log.Fatal(err)
		}
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			fmt.Println("no more answers:", err)
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v: %s\n", from, buf[:n])
	}
	// Output:
	// 02:00:00:00:00:02: I am here, em0
	// no more answers: read packet 02:00:00:00:00:01: i/o timeout
}
