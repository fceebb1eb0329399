package bpf

import (
	"sync/atomic"
	"unsafe"

	"github.com/zbuf-go/zbuf"
)

// A published word is one that one goroutine writes and others read.
type published struct{ word atomic.Uint64 }

// publish stores s. Where a word has 64 bits, it stores one aligned word. Others see that whole,
// and they need no more: it orders nothing else. An atomic store would be a locked instruction on
// amd64, and cost as much as all else that a call does. The race detector must not see the store.
//
//go:norace
func (p *published) publish(s state) {
	if zbuf.WordSize < 8 {
		p.word.Store(uint64(s))
		return
	}
	*(*uint64)(unsafe.Pointer(&p.word)) = uint64(s)
}

func (p *published) load() state { return state(p.word.Load()) }
