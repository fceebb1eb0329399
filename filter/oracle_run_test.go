package filter

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

func TestSameVerdictsAsOracle(t *testing.T) {
	n := expressions(t, 200, 2000)
	w := writer{Rand: rand.New(rand.NewPCG(3, 4))}
	packets, asked := 0, 0
	for i := range n {
		dlt := uint32(DLTEthernet)
		if i%2 == 1 {
			dlt = corpusLinks[i/2%len(corpusLinks)]
		}
		w.dlt = dlt
		text := w.expr(i % 5)
		packets += compareWithOracle(t, dlt, text, uint64(i), &asked)
	}
	t.Logf("%d expressions, %d packets", asked, packets)
	lab.Report(t, lab.Cases, uint64(asked))
	lab.Report(t, lab.Packets, uint64(packets))
	require.Greater(t, asked, n/4)
}

// Numbers of a packet are divisors and counts of shifts too. The bytes are often 0, and so is len.
func TestSameVerdictsAsOracleInArithmetic(t *testing.T) {
	n := expressions(t, 1500, 10000)
	w := writer{Rand: rand.New(rand.NewPCG(5, 6))}
	packets, asked := 0, 0
	leaves := []string{"len", "len", "0", "1", "2", "15", "0xffffffff", "ether[0]", "ether[1]",
		"ether[2:2]", "ether[4:4]", "ether[ether[0]&3]"}
	for i := range n {
		from := leaves[:7+5*(i%2)] // every other expression looks at no byte
		text := w.arithmetic(1+i%4, from...) + w.pick("=", "!=", "<", ">", "<=", ">=") +
			w.arithmetic(i%3, from...)
		packets += compareWithOracle(t, DLTEthernet, text, uint64(i), &asked, w.small, w.small, w.small)
	}
	t.Logf("%d expressions, %d packets", asked, packets)
	lab.Report(t, lab.Cases, uint64(asked))
	lab.Report(t, lab.Packets, uint64(packets))
	require.Greater(t, asked, n/2)
}

// small returns a packet of a few small bytes, or none.
func (w writer) small() sample {
	data := make([]byte, w.IntN(12))
	for i := range data {
		data[i] = byte(w.IntN(3))
	}
	return sample{data: data, wire: len(data)}
}

// compareWithOracle checks the optimised and the plain program against the oracle.
func compareWithOracle(t *testing.T, dlt uint32, text string, seed uint64, asked *int,
	more ...func() sample) int {
	opt := judgeOptions(dlt)
	opt.AFInet6 = 28
	prog, err := Compile(text, opt)
	if err != nil {
		return 0
	}
	opt.NoOptimize = true
	plain, err := Compile(text, opt)
	require.NoError(t, err)
	e, err := Parse(text)
	require.NoError(t, err)
	o := oracleFor(e, dlt, 28)
	*asked++
	list := samplesFor(dlt, seed, 8, prog, plain)
	for _, f := range more {
		list = append(list, f())
	}
	for _, s := range list {
		want := o.matches(e, s)
		require.Equal(t, want, runOn(prog, s), "link type %d, %q on %x (wire %d)", dlt, text, s.data,
			s.wire)
		require.Equal(t, want, runOn(plain, s), "not optimised: link type %d, %q on %x (wire %d)", dlt,
			text, s.data, s.wire)
	}
	return len(list)
}
