package filter

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// judgeOptions has the options that libpcap on Linux compiles with.
func judgeOptions(dlt uint32) Options {
	return Options{LinkType: dlt, AFInet6: 10, ByteOrder: binary.LittleEndian, Names: systemNames(),
		MaxInstructions: 1 << 20}
}

// verdict has the findings about one question.
type verdict struct {
	question
	problem    string
	row        int  // of the table of deliberate differences, from 1
	torn       bool // libpcap's program and its unoptimised one differ
	excused    bool // a deliberate difference makes the program longer: a check or a load is kept
	ours, pcap int
	steps      [2]int // instructions executed on ordinary packets: ours, libpcap's
}

func TestSameVerdictsAsLibpcap(t *testing.T) {
	d := newTcpdump(t)
	list := corpus(t, expressions(t, 60, 1000))
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
	var steps [2]int
	rows := make([]int, len(deliberate))
	for _, r := range results {
		if r.problem != "" {
			assert.Fail(t, "differs", "link type %d, %q: %s", r.dlt, r.expression, r.problem)
			continue
		}
		ours += r.ours
		pcap += r.pcap
		steps[0] += r.steps[0]
		steps[1] += r.steps[1]
		switch {
		case r.row > 0:
			rows[r.row-1]++
		case r.ours == 0:
			refused++
		case r.torn:
			torn++
		default:
			equal++
			if r.ours > max(r.pcap*5/4, r.pcap+2) && !r.excused {
				assert.Fail(t, "too long", "link type %d, %q: %d instructions, libpcap %d", r.dlt, r.expression,
					r.ours, r.pcap)
			}
		}
	}
	t.Logf("%d questions: %d equal, %d refused by both, %d where libpcap's optimiser changes verdicts",
		len(list), equal, refused, torn)
	for i, r := range deliberate {
		t.Logf("%4d deliberate: %s", rows[i], r.construct)
		assert.True(t, rows[i] > 0 || testing.Short(), "nothing needs the row: %s", r.construct)
	}
	t.Logf("%d instructions, libpcap %d; executed on ordinary packets %d, libpcap %d", ours, pcap,
		steps[0], steps[1])
	assert.LessOrEqual(t, ours, pcap, "instructions in sum")
	lab.Report(t, lab.Cases, uint64(len(list)))
}

var osiWords = regexp.MustCompile(
	`\b(clnp|esis|isis|es-is|is-is|l1|l2|iih|lsp|[cp]?snp|iso proto)\b`)

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
			return refused == "" && err != nil && strings.Contains(err.Error(),
				"no packet of this link type can match")
		}},
	{construct: "inbound, outbound",
		reason: "FreeBSD's kernel has no such field; Config.Direction does it",
		refusal: func(q question, err error, refused string) bool {
			return refused == "" && err != nil && strings.Contains(err.Error(),
				"do not say in which direction")
		}},
	{construct: "protochain, byte",
		reason: "no kernel takes jumps backwards; not in the manual",
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
	{construct: "a field of a protocol on the right of an operator",
		reason: "libpcap checks only that the left operand's protocol is there; the manual wants each",
		verdict: func(q question, _ sample, _ []bpf.RawInstruction) bool {
			e, err := Parse(q.expression)
			return err == nil && fieldOnTheRight(e.Root)
		}},
	{construct: "geneve on a packet cut within its header",
		reason: "libpcap reads the header to its end even if the expression needs none of it",
		verdict: func(q question, s sample, theirs []bpf.RawInstruction) bool {
			return strings.Contains(q.expression, "geneve") && endsInLoad(theirs, s)
		}},
	{construct: "a link header of variable length",
		reason: "libpcap works out its length even if nothing needs it, and with arithmetic, pppoes " +
			"or geneve uses the word that holds it for something else as well",
		verdict: func(q question, s sample, theirs []bpf.RawInstruction) bool {
			variable := q.dlt == DLTWLANRadio || q.dlt == DLTWLAN || q.dlt == DLTPFLog
			return variable && endsInLoad(theirs, s) || variable &&
				strings.ContainsAny(q.expression, "[<>=") || variable &&
				(strings.Contains(q.expression, "pppoes") ||
					strings.Contains(q.expression, "geneve"))
		}},
	{construct: "OSI protocols on Linux's cooked capture",
		reason: "libpcap looks for them in the LLC header instead of behind it",
		verdict: func(q question, _ sample, _ []bpf.RawInstruction) bool {
			return q.dlt == DLTLinuxSLL &&
				osiWords.MatchString(q.expression)
		}},
	{construct: "neighbouring alternatives on a packet that ends between the two fields",
		reason: "they are one question: first whether the source is one of them, then the destination",
		verdict: func(q question, s sample, theirs []bpf.RawInstruction) bool {
			alternatives := strings.Count(q.expression, "port") + strings.Count(q.expression,
				"host") + strings.Count(q.expression, "net")
			return alternatives > 1 && endsInLoad(theirs, s)
		}},
	{construct: "what stands behind geneve when the packet is none",
		reason: "libpcap's program reads words that it never wrote, and counts MPLS labels before geneve",
		refusal: func(q question, err error, refused string) bool {
			return err == nil && strings.Contains(strings.ToLower(refused), "mpls") &&
				strings.Contains(q.expression, "geneve")
		},
		verdict: func(q question, _ sample, _ []bpf.RawInstruction) bool {
			return strings.Contains(q.expression, "geneve") && strings.ContainsAny(q.expression, " ")
		}},
}

// fieldOnTheRight reports whether an operator has a field of a protocol on its right.
func fieldOnTheRight(n Node) bool {
	var hasField, right func(a Arith) bool
	hasField = func(a Arith) bool {
		switch a := a.(type) {
		case *Negative:
			return hasField(a.X)
		case *Binary:
			return hasField(a.X) || hasField(a.Y)
		case *Load:
			return a.Proto != "ether" || hasField(a.Index)
		}
		return false
	}
	right = func(a Arith) bool {
		switch a := a.(type) {
		case *Negative:
			return right(a.X)
		case *Load:
			return right(a.Index)
		case *Binary:
			return hasField(a.Y) || right(a.X)
		}
		return false
	}
	switch n := n.(type) {
	case *And:
		return fieldOnTheRight(n.X) || fieldOnTheRight(n.Y)
	case *Or:
		return fieldOnTheRight(n.X) || fieldOnTheRight(n.Y)
	case *Not:
		return fieldOnTheRight(n.X)
	case *Compare:
		return right(n.X) || right(n.Y)
	}
	return false
}

// distinctLoads returns the loads of a program, each once.
func distinctLoads(prog []bpf.RawInstruction) map[bpf.RawInstruction]bool {
	m := map[bpf.RawInstruction]bool{}
	for _, i := range prog {
		if isLoad(i) {
			m[i] = true
		}
	}
	return m
}

// endsInLoad reports whether the program ends because a load is beyond the packet.
func endsInLoad(prog []bpf.RawInstruction, s sample) bool {
	_, steps := mustVM(prog).Trace(s.data, s.wire)
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
	e, err := Parse(q.expression)
	if err != nil {
		v.problem = err.Error()
		return v
	}
	if readsUnwritten(prog) {
		v.problem = "it may load a word of memory that it has not stored"
		return v
	}
	v.excused = fieldOnTheRight(e.Root) || readsUnwritten(theirs) ||
		len(distinctLoads(theirs)) < len(distinctLoads(theirPlain)) ||
		slices.ContainsFunc(prog, func(i bpf.RawInstruction) bool {
			return i.Op&7 == codeJmp && i.Op != codeJmp|jumpAlways && i.Jt == i.Jf
		})
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 6)), inet6: 10}
	for range 20 {
		p := g.packet(q.dlt)
		for i, prog := range [][]bpf.RawInstruction{prog, theirs} {
			_, way := mustVM(prog).Trace(p, len(p))
			v.steps[i] += len(way)
		}
	}
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
			v.problem = fmt.Sprintf("accepts %v, libpcap %v (not optimised: %v) on %x (wire %d)", a, c, e,
				s.data, s.wire)
			return v
		}
	}
	return v
}

func runOn(prog []bpf.RawInstruction, s sample) bool {
	return mustVM(prog).Run(s.data, s.wire) > 0
}

// samplesFor returns packets of a link type, and packets made to take each edge of the programs.
func samplesFor(dlt uint32, seed uint64, n int, progs ...[]bpf.RawInstruction) []sample {
	return moreSamplesFor(dlt, seed, n, 300, progs...)
}

// moreSamplesFor runs most packets of a program to find ways to its edges.
func moreSamplesFor(dlt uint32, seed uint64, n, most int, progs ...[]bpf.RawInstruction) []sample {
	rng := rand.New(rand.NewPCG(seed, 5))
	g := &generator{Rand: rng, inet6: 10}
	var seeds []sample
	for i := range n {
		g.tunnel = i%4 == 3
		seeds = append(seeds, g.sample(dlt))
	}
	var all []sample
	for _, p := range progs {
		made, _ := craft(p, seeds, most, rng)
		all = append(all, made...)
	}
	return all
}

func TestMain(m *testing.M) { os.Exit(m.Run()) }
