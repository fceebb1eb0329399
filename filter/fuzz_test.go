package filter

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func seedExpressions(f *testing.F) {
	for i, e := range typedExpressions(f) {
		f.Add(e, byte(i))
	}
	f.Add("geneve and vxlan 5 and tcp[ip[0] << 3 : 2] / udp[-1] = 1", byte(0))
	f.Add("not ((not (port 80 or (81 and 82)))) or 0x = 1..2.3", byte(1))
}

// FuzzLexer checks that tokens cover the text in order and that nothing panics.
func FuzzLexer(f *testing.F) {
	seedExpressions(f)
	f.Fuzz(func(t *testing.T, text string, _ byte) {
		l := lexer{src: text}
		end := 0
		for {
			tok, err := l.next()
			if err != nil {
				require.IsType(t, &Error{}, err)
				require.NotEmpty(t, err.Error())
				return
			}
			require.GreaterOrEqual(t, tok.pos, end)
			if tok.kind == tokEnd {
				return
			}
			require.Greater(t, tok.end, tok.pos)
			end = tok.end
		}
	})
}

// FuzzParse checks that the normal form is a fixed point.
func FuzzParse(f *testing.F) {
	seedExpressions(f)
	f.Fuzz(func(t *testing.T, text string, _ byte) {
		e, err := Parse(text)
		if err != nil {
			require.IsType(t, &Error{}, err)
			require.NotEmpty(t, err.Error())
			return
		}
		again, err := Parse(e.String())
		require.NoError(t, err, "%q", e)
		require.Equal(t, e.String(), again.String())
	})
}

// FuzzCompile checks that programs are valid and that the optimiser changes no verdict.
func FuzzCompile(f *testing.F) {
	seedExpressions(f)
	f.Fuzz(func(t *testing.T, text string, link byte) {
		if len(text) > 400 {
			return
		}
		opt := Options{LinkType: corpusLinks[int(link)%len(corpusLinks)], MaxInstructions: 1 << 20}
		prog, err := Compile(text, opt)
		if err != nil {
			require.IsType(t, &Error{}, err)
			return
		}
		require.NoError(t, Validate(prog))
		opt.NoOptimize = true
		plain, err := Compile(text, opt)
		if err != nil { // the optimiser made room in memory
			return
		}
		for _, s := range samplesFor(opt.LinkType, uint64(link), 2, prog, plain) {
			require.Equal(t, runOn(plain, s), runOn(prog, s), "%q on %x", text, s.data)
		}
	})
}
