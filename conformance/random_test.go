package conformance

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// op is one step of a sequence. What it does depends on nothing but itself and
// the state, so any part of a sequence can be left out.
type op struct {
	Do string `json:"do"`
	S  int    `json:"s,omitempty"` // which of the three descriptors
	N  uint32 `json:"n,omitempty"`
	M  uint32 `json:"m,omitempty"`
}

// sequence is a list of steps with what is fixed for all of them.
type sequence struct {
	// Stamped sequences use all time stamps and compare records but for those; others have
	// none, and compare the lent memory byte by byte.
	Stamped bool `json:"stamped"`
	Ops     []op `json:"ops"`
}

func (s sequence) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestRandomSequences plays random sequences on the kernel and on the model, side by
// side, and compares every result, header, counter and packet. ZBUF_STEPS says how many
// steps, ZBUF_SEED from which seed; ZBUF_REPLAY is a sequence that was printed.
func TestRandomSequences(t *testing.T) {
	k, why := lab.Kernel()
	if k == nil {
		t.Skip("nothing to compare the model with: ", why)
	}
	only64(t)
	if text := os.Getenv("ZBUF_REPLAY"); text != "" {
		var seq sequence
		require.NoError(t, json.Unmarshal([]byte(text), &seq))
		m, err := modelOf(k)
		require.NoError(t, err)
		at, diff, err := play(k, m, seq)
		require.NoError(t, err)
		require.Empty(t, diff, "step %d", at)
		return
	}
	n := lab.Setting(t, "ZBUF_STEPS", 4000)
	m, err := modelOf(k)
	require.NoError(t, err)
	t.Logf("the model has:%s", describe(featuresOf(m)))
	requireSame(t, k, m, n)
}

// only64 skips where records have another layout.
func only64(t *testing.T) {
	if runtime.GOARCH == "386" {
		t.Skip("a 386 binary gets no zero-copy from the kernel, and records of another layout: rules " +
			"386/… show those")
	}
}

// onlyModels skips a test that would take long in a guest and is not about its kernel.
func onlyModels(t *testing.T) {
	if k, _ := lab.Kernel(); k != nil {
		t.Skip("models alone: run where there is no kernel to compare with")
	}
}

// TestRandomSequencesAreRepeatable plays them on two models.
func TestRandomSequencesAreRepeatable(t *testing.T) {
	only64(t)
	onlyModels(t)
	for _, r := range releases {
		t.Run(r.name, func(t *testing.T) {
			requireSame(t, newModel(r.f), newModel(r.f), 4000)
		})
	}
}

// TestRandomSequencesFind plays them on models that differ on purpose: the difference
// must be found and shortened to what shows it.
func TestRandomSequencesFind(t *testing.T) {
	only64(t)
	onlyModels(t)
	for name, c := range map[string]struct {
		opt  bpftest.Option
		most int
		need string
	}{
		"zeroed padding":        {bpftest.WithFeatures(bpftest.Features{PadZero: true}), 12, "inject"},
		"a request of 14":       {bpftest.WithFeatures(bpftest.Features{SetVLANPCP: true}), 2, "BIOCSETVLANPCP"},
		"flags that are sticky": {bpftest.WithFeatures(bpftest.Features{StickyFlags: true}), 8, "BIOCIMMEDIATE"},
		"truncated timeouts":    {bpftest.WithFeatures(bpftest.Features{TruncateTimeout: true}), 2, "BIOCSRTIMEOUT"},
		"attaching that wakes":  {bpftest.WithFeatures(bpftest.Features{AttachWakes: true}), 12, "BIOCSETIF"},
		"writes that count":     {bpftest.WithFeatures(bpftest.Features{TapWrite: true}), 1, "inject"},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, 7))
			for range 40 {
				seq := generate(rng, 400)
				a, b := lab.Model(c.opt), lab.Model()
				at, diff, err := play(a, b, seq)
				require.NoError(t, err)
				if diff == "" {
					continue
				}
				short := shorten(a, b, seq, at)
				t.Log(short)
				require.LessOrEqual(t, len(short.Ops), c.most)
				require.True(t, slices.ContainsFunc(short.Ops, func(o op) bool { return o.Do == c.need }))
				return
			}
			require.Fail(t, "not found in 16,000 steps")
		})
	}
}
