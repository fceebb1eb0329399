//go:build freebsd && cgo

// Command cgo is a contestant: gopacket/pcap, which calls libpcap through cgo. It has the arguments
// and the commands of c/contest.c. It is a program, so that the other contestants run in processes
// without cgo.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket/pcap"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bench/internal/contestant"
	"github.com/zbuf-go/zbuf/bench/internal/cputime"
	"github.com/zbuf-go/zbuf/bench/internal/load"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cgo:", err)
		os.Exit(1)
	}
}

// numbers parses arguments.
func numbers(args []string) (list []int, err error) {
	for _, a := range args {
		n, err := strconv.ParseInt(a, 10, 64)
		if err != nil {
			return nil, err
		}
		list = append(list, int(n))
	}
	return list, nil
}

func run() error {
	if len(os.Args) < 12 {
		return errors.New("cgo loop interface memory timeout immediate work delays filter...")
	}
	n, err := numbers(os.Args[3:])
	if err != nil {
		return err
	}
	lent, err := unix.SysctlUint32("net.bpf.zerocopy_enable")
	if err != nil {
		return err
	}
	pieces := 3
	if !strings.Contains(pcap.Version(), "zerocopy") {
		lent = 0
	}
	if lent != 0 {
		pieces = 2
	}
	h, err := open(os.Args[2], n[0]/pieces, time.Duration(n[1])*time.Millisecond, n[2] != 0)
	if err != nil {
		return err
	}
	var filter []pcap.BPFInstruction
	for f := n[5:]; len(f) >= 4; f = f[4:] {
		filter = append(filter, pcap.BPFInstruction{Code: uint16(f[0]), Jt: uint8(f[1]),
			Jf: uint8(f[2]), K: uint32(f[3])})
	}
	if err := h.SetBPFInstructionFilter(filter); err != nil {
		return err
	}
	t := &contestant.Tally{Work: contestant.Spins(time.Duration(n[3]))}
	if n[4] > 0 {
		t.Delays = make([]int64, 0, n[4])
	}
	t.Ready(load.Now)
	debug.FreeOSMemory()
	return serve(h, t, map[string]any{"Version": pcap.Version(), "Lent": lent != 0})
}

func open(ifname string, size int, wait time.Duration, immediate bool) (*pcap.Handle, error) {
	i, err := pcap.NewInactiveHandle(ifname)
	if err != nil {
		return nil, err
	}
	defer i.CleanUp()
	err = errors.Join(i.SetSnapLen(1<<18), i.SetTimeout(wait), i.SetBufferSize(size),
		i.SetImmediateMode(immediate))
	if err != nil {
		return nil, err
	}
	return i.Activate()
}

// serve answers commands.
func serve(h *pcap.Handle, t *contestant.Tally, hi any) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(hi); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, arg, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.Atoi(arg)
		var answer any = struct{}{}
		switch word {
		case "run":
			r, err := capture(h, t, time.Duration(n)*time.Millisecond)
			if err != nil {
				return err
			}
			answer = r
		case "touch":
			answer = contestant.TouchCost(n)
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	return nil
}

// result has the fields of trial.Result that the process itself knows.
type result struct {
	Elapsed                time.Duration
	Packets, Bytes         uint64
	CPU, User, System      int64
	Voluntary, Involuntary int64
	RSS                    int64
	Delays                 int
	P50, P99, Max          int64
}

func capture(h *pcap.Handle, t *contestant.Tally, d time.Duration) (r result, err error) {
	var stop atomic.Bool
	t.Delays = t.Delays[:0]
	was := *t
	var use [2]unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &use[0])
	spent := cputime.Process()
	time.AfterFunc(d, func() { stop.Store(true) })
	begin := time.Now()
	for !stop.Load() {
		data, _, err := h.ZeroCopyReadPacketData()
		if err == pcap.NextErrorTimeoutExpired {
			continue
		}
		if err != nil {
			return r, err
		}
		t.Packet(data)
	}
	r.Elapsed, r.CPU = time.Since(begin), int64(cputime.Process()-spent)
	unix.Getrusage(unix.RUSAGE_SELF, &use[1])
	r.Packets, r.Bytes = t.Packets-was.Packets, t.Bytes-was.Bytes
	r.User = use[1].Utime.Nano() - use[0].Utime.Nano()
	r.System = use[1].Stime.Nano() - use[0].Stime.Nano()
	r.Voluntary, r.Involuntary = use[1].Nvcsw-use[0].Nvcsw, use[1].Nivcsw-use[0].Nivcsw
	r.RSS, r.Delays = use[1].Maxrss<<10, len(t.Delays)
	r.P50, r.P99, r.Max = contestant.Quantiles(t.Delays)
	return r, nil
}
