// Guest is the program that the tests of vmtest run on the FreeBSD kernel.
package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
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
	case "alone": // makes a pair of interfaces and looks whether anybody else has
		if err := createInterface("epair"); err != nil {
			panic(err)
		}
		for range 10 {
			ifs, err := net.Interfaces()
			if err != nil {
				panic(err)
			}
			if len(ifs) != 3 {
				fmt.Println("not alone:", ifs)
				os.Exit(1)
			}
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Println("alone", os.Args[2])
	}
}
