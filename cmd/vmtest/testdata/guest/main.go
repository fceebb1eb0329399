// Guest is the program that the tests of vmtest run on the FreeBSD kernel.
package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch os.Args[1] {
	case "bytes": // as many MiB as asked for: random bytes with a running number in every 512
		n, _ := strconv.Atoi(os.Args[2])
		b := make([]byte, 1<<20)
		rand.NewChaCha8([32]byte{1}).Read(b)
		for i := range n {
			for at := 0; at < len(b); at += 512 {
				binary.LittleEndian.PutUint64(b[at:], uint64(i<<20+at))
			}
			os.Stdout.Write(b)
		}
	case "sleep":
		fmt.Println("sleeping")
		time.Sleep(time.Hour)
	case "hello":
		fmt.Println("hello")
	case "modules":
		names, err := modules()
		if err != nil {
			panic(err)
		}
		fmt.Println(strings.Join(names, " "))
	case "alone": // makes a pair of interfaces and looks whether anybody else has
		if _, err := createInterface("epair"); err != nil {
			panic(err)
		}
		for range 10 {
			ifs, err := net.Interfaces()
			if err != nil {
				panic(err)
			}
			// A kernel may have interfaces of its own, such as enc0.
			pairs := slices.DeleteFunc(slices.Clone(ifs), func(i net.Interface) bool {
				return !strings.HasPrefix(i.Name, "epair")
			})
			if len(pairs) != 2 {
				fmt.Println("not alone:", ifs)
				os.Exit(1)
			}
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Println("alone", os.Args[2])
	case "reach": // tries to connect to each address by the card that the agent has
		if err := joinAgentsNetwork(); err != nil {
			panic(err)
		}
		for _, addr := range os.Args[2:] {
			c, err := net.DialTimeout("tcp4", addr, 3*time.Second)
			if err != nil {
				fmt.Println("not reached:", err)
				continue
			}
			c.Close()
			fmt.Println("reached", addr)
		}
	case "flood": // writes to one end of a pair until its queue is full
		n, err := flood()
		if err != syscall.ENOBUFS {
			panic(err)
		}
		fmt.Println("overflowed after", n)
	}
}

func flood() (n int, err error) {
	ifname, err := createInterface("epair")
	if err != nil {
		return 0, err
	}
	for _, end := range []string{"a", "b"} {
		if err := interfaceUp(strings.TrimSuffix(ifname, "a") + end); err != nil {
			return 0, err
		}
	}
	fd, err := syscall.Open("/dev/bpf", syscall.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	if err := syscall.SetBpfInterface(fd, ifname); err != nil {
		return 0, err
	}
	frame := make([]byte, 64)
	for range 1_000_000 {
		if _, err := syscall.Write(fd, frame); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
