// Gencap writes a capture file of made-up packets to standard output.
//
//	go run ./internal/capgen/gencap -n 100000 -format pcapng-ns > big.pcapng
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

func main() {
	n := flag.Int("n", 100_000, "number of packets")
	format := flag.String("format", "pcapng-ns", "pcap or pcapng, -us or -ns, -be for big-endian")
	seed := flag.Uint64("seed", 1, "another seed gives other packets")
	flag.Parse()
	f := capgen.Format{
		Pcapng:    strings.HasPrefix(*format, "pcapng"),
		Nano:      strings.Contains(*format, "-ns"),
		BigEndian: strings.HasSuffix(*format, "-be"),
	}
	if f.String() != *format {
		fmt.Fprintf(os.Stderr, "gencap: no format %q\n", *format)
		os.Exit(2)
	}
	if err := capgen.Write(os.Stdout, f, capgen.Packets(*n, f, f.Pcapng, *seed)); err != nil {
		fmt.Fprintln(os.Stderr, "gencap:", err)
		os.Exit(1)
	}
}
