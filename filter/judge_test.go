package filter

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/net/bpf"
)

// judgeOptions are what libpcap on Linux compiles for.
func judgeOptions(dlt uint32) Options {
	return Options{LinkType: dlt, AFInet6: 10, ByteOrder: binary.LittleEndian, Names: systemNames(),
		MaxInstructions: 1 << 20}
}

// verdict is what was found about one question.
type verdict struct {
	question
	problem    string
	row        int  // of the table of deliberate differences, from 1
	torn       bool // libpcap's program and its unoptimised one differ
	ours, pcap int
}

func TestSameVerdictsAsLibpcap(t *testing.T) {
	d := newTcpdump(t)
	generated := 3000
	if testing.Short() {
		generated = 150
	}
	list := corpus(t, generated)
	results := make([]verdict, len(list))
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				results[i] = judge(t, d, list[i], uint64(i))
			}
		}()
	}
	for i := range list {
		next <- i
	}
	close(next)
	wg.Wait()
	var ours, pcap, equal, refused, torn int
	rows := make([]int, len(deliberate))
	for _, r := range results {
		if r.problem != "" {
			assert.Fail(t, "differs", "link type %d, %q: %s", r.dlt, r.expression, r.problem)
			continue
		}
		if r.row > 0 {
			rows[r.row-1]++
			continue
		}
		if r.ours == 0 {
			refused++
			continue
		}
		if r.torn {
			torn++
			continue
		}
		ours += r.ours
		pcap += r.pcap
		equal++
		if r.ours > max(r.pcap*5/4, r.pcap+2) {
			assert.Fail(t, "too long", "link type %d, %q: %d instructions, libpcap %d", r.dlt, r.expression, r.ours, r.pcap)
		}
	}
	t.Logf("%d questions: %d equal, %d refused by both, %d where libpcap's optimiser changes verdicts",
		len(list), equal, refused, torn)
	for i, r := range deliberate {
		t.Logf("%4d deliberate: %s", rows[i], r.construct)
	}
	t.Logf("%d instructions, libpcap %d", ours, pcap)
	assert.LessOrEqual(t, ours, pcap, "instructions in sum")
}

// deliberate is the table of constructs where the compiler means to differ from libpcap 1.10.3.
var deliberate = []struct {
	construct, reason string
	// refusal says that one refuses the question and the other does not, for this reason.
	refusal func(q question, err error, refused string) bool
	// verdict says that the verdicts on a packet differ for this reason.
	verdict func(q question, s sample, theirs []bpf.RawInstruction) bool
}{
	{construct: "a field is compared with a number that it cannot hold",
		reason: "no packet can match, so the expression is refused",
		refusal: func(_ question, err error, refused string) bool {
			return refused == "" && err != nil && strings.Contains(err.Error(), "no packet of this link type can match")
		}},
	{construct: "inbound, outbound",
		reason: "FreeBSD's kernel has no such field; Config.Direction does it",
		refusal: func(q question, err error, refused string) bool {
			return refused == "" && err != nil && strings.Contains(err.Error(), "do not say in which direction")
		}},
	{construct: "gateway, protochain, byte",
		reason: "no lookups are given; no kernel takes jumps backwards; not in the manual",
		refusal: func(q question, err error, refused string) bool {
			return refused == "" && err != nil && (strings.Contains(q.expression, "protochain") ||
				strings.Contains(q.expression, "byte"))
		}},
	{construct: "a DECnet address out of range",
		reason: "libpcap lets the number overflow",
		refusal: func(q question, err error, refused string) bool {
			return refused == "" && err != nil && strings.Contains(err.Error(), "is not a DECnet address")
		}},
	{construct: "brackets within brackets in a list of values",
		reason: "libpcap's grammar stops there for no reason of the language",
		refusal: func(q question, err error, refused string) bool {
			return refused != "" && err == nil && strings.Contains(q.expression, "((")
		}},
	{construct: "arithmetic on fields of two protocols",
		reason: "libpcap checks only that the first protocol is there; the manual says both",
		verdict: func(q question, _ sample, _ []bpf.RawInstruction) bool {
			return strings.Count(q.expression, "[") > 1
		}},
	{construct: "geneve on a packet cut within its header",
		reason: "libpcap reads the header to its end even if the expression needs none of it",
		verdict: func(q question, s sample, theirs []bpf.RawInstruction) bool {
			return strings.Contains(q.expression, "geneve") && endsInLoad(theirs, s)
		}},
	{construct: "pppoes on radiotap",
		reason: "libpcap's program reads a word that it never wrote",
		verdict: func(q question, s sample, theirs []bpf.RawInstruction) bool {
			return q.dlt == DLTWLANRadio && strings.Contains(q.expression, "pppoes")
		}},
}

// endsInLoad reports whether the program ends because a load is beyond the packet.
func endsInLoad(prog []bpf.RawInstruction, s sample) bool {
	_, steps, _ := Trace(prog, s.data, s.wire)
	return isLoad(prog[steps[len(steps)-1].At])
}

// judge compares the programs for one question over packets that were made for them.
func judge(t *testing.T, d *tcpdump, q question, seed uint64) verdict {
	v := verdict{question: q}
	theirs, refused, err := d.compile(q.dlt, q.expression, true)
	if err != nil {
		v.problem = err.Error()
		return v
	}
	opt := judgeOptions(q.dlt)
	prog, err := Compile(q.expression, opt)
	for i, r := range deliberate {
		if r.refusal != nil && r.refusal(q, err, refused) {
			v.row = i + 1
			return v
		}
	}
	switch {
	case refused != "" && err == nil:
		v.problem = "libpcap refuses it: " + refused
		return v
	case refused == "" && err != nil:
		v.problem = "only libpcap takes it: " + err.Error()
		return v
	case err != nil:
		return v
	}
	opt.NoOptimize = true
	plain, err := Compile(q.expression, opt)
	if err != nil {
		v.problem = err.Error()
		return v
	}
	theirPlain, _, err := d.compile(q.dlt, q.expression, false)
	if err != nil {
		v.problem = err.Error()
		return v
	}
	v.ours, v.pcap = len(prog), len(theirs)
	for _, s := range samplesFor(q.dlt, seed, 10, prog, plain, theirs, theirPlain) {
		a, b := runOn(prog, s), runOn(plain, s)
		c, e := runOn(theirs, s), runOn(theirPlain, s)
		if a != b {
			v.problem = fmt.Sprintf("optimised %v, not optimised %v on %x (wire %d)", a, b, s.data, s.wire)
			return v
		}
		if c != e {
			v.torn = true
		}
		if a == e || a == c && c != e {
			continue
		}
		for i, r := range deliberate {
			if r.verdict != nil && r.verdict(q, s, theirs) {
				v.row = i + 1
			}
		}
		if v.row == 0 {
			v.problem = fmt.Sprintf("accepts %v, libpcap %v (not optimised: %v) on %x (wire %d)", a, c, e, s.data, s.wire)
			return v
		}
	}
	return v
}

func runOn(prog []bpf.RawInstruction, s sample) bool {
	n, err := Run(prog, s.data, s.wire)
	if err != nil {
		panic(err)
	}
	return n > 0
}

// samplesFor returns packets of a link type, and packets made to take each edge of the programs.
func samplesFor(dlt uint32, seed uint64, n int, progs ...[]bpf.RawInstruction) []sample {
	rng := rand.New(rand.NewPCG(seed, 5))
	g := &generator{Rand: rng, inet6: 10}
	var seeds []sample
	for range n {
		seeds = append(seeds, g.sample(dlt))
	}
	var all []sample
	for _, p := range progs {
		made, _ := craft(p, seeds, 300, rng)
		all = append(all, made...)
	}
	return all
}

func TestMain(m *testing.M) { os.Exit(m.Run()) }
