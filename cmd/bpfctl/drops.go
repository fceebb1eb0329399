package main

import (
	"fmt"
	"math/bits"
	"os"
	"time"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/human"
)

// quietLooks is how many ticks pass between two looks at the drops while a capture gets no packets.
const quietLooks = 20

// A pace tells at which ticks to look at the kernel's counters: at each while packets are captured,
// and at one of quietLooks otherwise. A look wakes up every reader, because it stops their read
// timeouts in the kernel.
type pace struct {
	packets uint64 // captured at the last look
	quiet   int    // ticks since
}

func (p *pace) due(packets uint64) bool {
	if packets == p.packets && p.quiet < quietLooks-1 {
		p.quiet++
		return false
	}
	*p = pace{packets: packets}
	return true
}

// watchDrops looks at the readers again and again until done is closed. When the kernel begins to
// drop packets of one, it says which buffers would have held them. packets returns how many were
// captured.
func watchDrops(
	all []*bpf.Reader, packets func() uint64, say func(string), done <-chan struct{},
) {
	told := make([]bool, len(all))
	t := time.NewTicker(showEvery)
	defer t.Stop()
	var pace pace
	for last := false; !last; {
		select {
		case <-done:
			last = true
		case <-t.C:
			if !pace.due(packets()) {
				continue
			}
		}
		for i, r := range all {
			s, err := r.Stats()
			if err != nil || told[i] || s.Dropped == 0 {
				continue
			}
			told[i] = true
			mean := uint64(1514)
			if s.Packets > 0 {
				mean = s.Bytes / s.Packets
			}
			mode, _ := r.Mode()
			say(fmt.Sprintf("%s: the kernel begins to drop packets, %d by now: both buffers of %s were "+
				"full; %s", r.Interface(), s.Dropped, human.Size(r.BufferSize()),
				buffersFor(r.BufferSize(), s.Dropped, mean, mode)))
		}
	}
}

// recordHeader is about what a packet takes in a buffer besides its bytes.
const recordHeader = 32

// buffersFor says which buffers would have held packets that were dropped. Their number is dropped,
// and mean is how long one is. Two full buffers of size bytes had no room for them.
func buffersFor(size int, dropped, mean uint64, mode bpf.Mode) string {
	const largest = 512 // pages of a lent buffer (BPF_MAX_PAGES)
	need := uint64(size) + dropped*(mean+recordHeader)/2
	need = 1 << bits.Len64(need-1)
	flag := fmt.Sprintf("--bufsize %d", need)
	switch {
	case need%(1<<20) == 0:
		flag = fmt.Sprintf("--bufsize %dM", need>>20)
	case need%(1<<10) == 0:
		flag = fmt.Sprintf("--bufsize %dK", need>>10)
	}
	most := uint64(largest * os.Getpagesize())
	limit := "the kernel takes at most " + human.Size(most)
	if mode == bpf.Buffered {
		most, limit = 1<<30, "--bufsize takes less than 2G"
		flag = fmt.Sprintf("%s would have held them, with the sysctl net.bpf.maxbufsize at least %d",
			flag, need)
	} else {
		flag += " would have held them"
	}
	if need > most {
		return fmt.Sprintf("buffers of %s would have held them, and %s: write to a faster disk, or "+
			"capture less with an expression or --snaplen", human.Size(need), limit)
	}
	return flag
}
