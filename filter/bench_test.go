package filter

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
)

var benchExpressions = map[string]string{
	"port":    "tcp port 443 and host 10.0.0.1",
	"default": "not port 22 and not arp",
	"flags":   "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net 10.0.0.0/8",
	"20ports": portsExpression(20),
	"50hosts": hostsExpression(50),
	"geneve":  "geneve and tcp port 80",
}

func portsExpression(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("port %d", 1000+17*i))
	}
	return strings.Join(list, " or ")
}

func hostsExpression(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("host 10.%d.0.1", i))
	}
	return strings.Join(list, " or ")
}

func BenchmarkCompile(b *testing.B) {
	for name, e := range benchExpressions {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Compile(e, Options{LinkType: DLTEthernet}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRun(b *testing.B) {
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2)), inet6: 28}
	var packets [][]byte
	for range 256 {
		packets = append(packets, g.packet(DLTEthernet))
	}
	for name, e := range benchExpressions {
		b.Run(name, func(b *testing.B) {
			prog, err := Compile(e, Options{LinkType: DLTEthernet})
			require.NoError(b, err)
			b.ReportAllocs()
			vm, i := mustVM(prog), 0
			for b.Loop() {
				vm.Run(packets[i&255], 60)
				i++
			}
		})
	}
}

func TestLongListsAreNoLongerThanLibpcaps(t *testing.T) {
	for _, c := range []struct {
		expression string
		most       int
	}{{portsExpression(20), 81}, {hostsExpression(50), 161}} {
		prog, err := Compile(c.expression, Options{LinkType: DLTEthernet})
		require.NoError(t, err)
		require.LessOrEqual(t, len(prog), c.most)
	}
}

// The benchmarks' programs are no longer than libpcap's, and packets execute no more of them.
func TestInstructionsBesideLibpcap(t *testing.T) {
	d := newTcpdump(t)
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2)), inet6: 10}
	var packets [][]byte
	for range 256 {
		packets = append(packets, g.packet(DLTEthernet))
	}
	executed := func(prog []bpf.RawInstruction) (n int) {
		for _, p := range packets {
			_, way := mustVM(prog).Trace(p, len(p))
			n += len(way)
		}
		return n
	}
	for _, name := range slices.Sorted(maps.Keys(benchExpressions)) {
		e := benchExpressions[name]
		ours, err := Compile(e, judgeOptions(DLTEthernet))
		require.NoError(t, err)
		theirs, refused, err := d.compile(DLTEthernet, e, true)
		require.NoError(t, err)
		require.Empty(t, refused)
		a, b := executed(ours), executed(theirs)
		t.Logf("%s: %d instructions, libpcap %d; executed on a packet %.1f, libpcap %.1f", name,
			len(ours), len(theirs), float64(a)/256, float64(b)/256)
		assert.LessOrEqual(t, len(ours), max(len(theirs)*5/4, len(theirs)+2), name)
		assert.LessOrEqual(t, a, b*5/4, name)
	}
}
