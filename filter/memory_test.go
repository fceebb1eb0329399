package filter

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/net/bpf"
)

// readsUnwritten reports whether a packet may make the program load a word of memory in which the
// program has stored nothing.
func readsUnwritten(prog []bpf.RawInstruction) bool {
	written := make([]uint16, len(prog)+1) // on every way to an instruction, a bit for each word
	reached := make([]bool, len(prog)+1)
	reached[0] = true
	for i, ins := range prog {
		if !reached[i] {
			continue
		}
		now := written[i]
		class := ins.Op & 7
		switch {
		case class == codeSt || class == codeStx:
			now |= 1 << ins.K
		case (class == codeLd || class == codeLdx) && ins.Op&0xe0 == modeMem && now>>ins.K&1 == 0:
			return true
		}
		next := []int{i + 1}
		switch {
		case class == codeRet:
			next = nil
		case ins.Op == codeJmp|jumpAlways:
			next = []int{i + 1 + int(ins.K)}
		case class == codeJmp:
			next = []int{i + 1 + int(ins.Jt), i + 1 + int(ins.Jf)}
		}
		for _, n := range next {
			if reached[n] {
				written[n] &= now
			} else {
				reached[n], written[n] = true, now
			}
		}
	}
	return false
}

func TestReadsUnwritten(t *testing.T) {
	load, store := bpf.RawInstruction{Op: codeLd | modeMem, K: 3}, bpf.RawInstruction{Op: codeSt, K: 3}
	other, ret := bpf.RawInstruction{Op: codeStx, K: 2}, bpf.RawInstruction{Op: codeRet, K: 1}
	branch := func(jt, jf uint8) bpf.RawInstruction {
		return bpf.RawInstruction{Op: codeJmp | 0x10, Jt: jt, Jf: jf}
	}
	for name, c := range map[string]struct {
		prog []bpf.RawInstruction
		want bool
	}{
		"nothing stored":            {[]bpf.RawInstruction{load, ret}, true},
		"another word stored":       {[]bpf.RawInstruction{other, load, ret}, true},
		"stored":                    {[]bpf.RawInstruction{store, load, ret}, false},
		"stored on one of two ways": {[]bpf.RawInstruction{branch(0, 1), store, load, ret}, true},
		"stored on both ways": {[]bpf.RawInstruction{branch(0, 2), store,
			{Op: codeJmp | jumpAlways, K: 1}, store, load, ret}, false},
		"the way without ends": {[]bpf.RawInstruction{branch(1, 0), ret, store, load, ret}, false},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, readsUnwritten(c.prog)) })
	}
}
