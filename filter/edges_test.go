package filter

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/net/bpf"
)

// way is one outcome of a jump: where it stands, and where it goes.
type way struct{ at, to int }

func waysOf(prog []bpf.RawInstruction) (all []way) {
	for at, ins := range prog {
		if ins.Op&7 == codeJmp && ins.Op != codeJmp|jumpAlways {
			all = append(all, way{at, at + 1 + int(ins.Jt)}, way{at, at + 1 + int(ins.Jf)})
		}
	}
	return all
}

// Every expression that is not constant accepts a packet and refuses one, and every jump is taken
// both ways by some packet. A way that no packet takes is proved to be impossible.
func TestCorpusTakesEveryEdge(t *testing.T) {
	n := expressions(t, 25, 400)
	all, impossible, constant := 0, 0, 0
	for i, q := range corpus(t, n) {
		prog, err := Compile(q.expression, judgeOptions(q.dlt))
		if err != nil || len(prog) == 1 {
			continue
		}
		taken, verdicts := map[way]bool{}, map[bool]bool{}
		vm := mustVM(prog)
		left := func() (l []way) {
			for _, w := range waysOf(prog) {
				if !taken[w] {
					l = append(l, w)
				}
			}
			return l
		}
		for round := uint64(0); round == 0 || round < 12 && len(left()) > 0; round++ {
			list := moreSamplesFor(q.dlt, uint64(i)+round<<32, 40, 300<<min(round, 4), prog)
			for _, wire := range []uint32{0, 1, 2, 3, 60, 64, longestPacket} {
				list = append(list, ofLength(list[0], wire)...)
			}
			for _, s := range list {
				if len(s.data) > s.wire || s.wire > longestPacket {
					continue // no packet is like that
				}
				v, steps := vm.Trace(s.data, s.wire)
				verdicts[v > 0] = true
				for j := 1; j < len(steps); j++ {
					taken[way{steps[j-1].At, steps[j].At}] = true
				}
			}
		}
		all += len(waysOf(prog))
		for _, w := range left() {
			impossible++
			p := prover{prog: prog, target: w, left: 1 << 20}
			assert.True(t, p.impossible(), "link type %d, %q: no packet goes from %d to %d\n%s",
				q.dlt, q.expression, w.at, w.to, Disassemble(prog))
		}
		if len(verdicts) < 2 {
			// One verdict is not reachable: then the expression is constant.
			constant++
			for at, ins := range prog {
				if ins.Op == codeRet && verdicts[ins.K == 0] {
					p := prover{prog: prog, target: way{-1, at}, left: 1 << 20}
					assert.True(t, p.impossible(), "link type %d, %q: no packet gets to %d\n%s",
						q.dlt, q.expression, at, Disassemble(prog))
				}
			}
		}
	}
	t.Logf("%d of %d edges taken, %d proved to be impossible; %d expressions are constant, though "+
		"not folded", all-impossible, all, impossible, constant)
}
