package bpf

import (
	"sync/atomic"
	"unsafe"

	"github.com/zbuf-go/zbuf"
)

// A published word has counts that one goroutine changes and others read. Where a word has 64 bits,
// the goroutine stores one aligned word. Others see that whole, and they need no more: it orders
// nothing else. An atomic store would be a locked instruction on amd64, and cost as much as all
// else that a call does. So the race detector must not see the store.
type published struct{ word atomic.Uint64 }

// add counts one more packet.
//
//go:norace
func (p *published) add(caplen uint) {
	if zbuf.WordSize < 8 {
		p.word.Store(uint64(p.load().plus(caplen)))
		return
	}
	word := (*uint64)(unsafe.Pointer(&p.word))
	*word = uint64(state(*word).plus(caplen))
}

func (p *published) load() state { return state(p.word.Load()) }
