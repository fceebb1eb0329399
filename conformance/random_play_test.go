package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// play plays a sequence on both and returns the first difference.
func play(a, b lab.World, seq sequence) (at int, diff string, err error) {
	var s [2]*side
	for i, w := range []lab.World{a, b} {
		if s[i], err = newSide(w, seq.Stamped); err != nil {
			return 0, "", err
		}
		defer func() { err = errors.Join(err, s[i].close()) }()
	}
	for at, o := range seq.Ops {
		// The model goes first: being synchronous, it says how many packets to wait for.
		rb := s[1].step(o)
		ra := s[0].step(o)
		if ra != rb {
			return at, fmt.Sprintf("%s: %s, %s: %s", a.Name(), clip(ra), b.Name(), clip(rb)), nil
		}
		lb, err := s[1].stats()
		if err != nil {
			return at, "", err
		}
		la, err := s[0].stats()
		if err != nil {
			return at, "", err
		}
		for deadline := time.Now().Add(lab.Patience); seen(la) != seen(lb); {
			if time.Now().After(deadline) {
				return at, fmt.Sprintf("packets seen at A and B: %s %v, %s %v", a.Name(), seen(la), b.Name(),
					seen(lb)), nil
			}
			if la, err = s[0].stats(); err != nil {
				return at, "", err
			}
		}
		if o.Do == "inject" || o.Do == "write" {
			// The list was read from the newest on: of the others it may be older than of the last.
			if la, err = s[0].stats(); err != nil {
				return at, "", err
			}
		}
		if diff := unlike(a.Name(), s[0].view(la), b.Name(), s[1].view(lb)); diff != "" {
			return at, diff, nil
		}
	}
	return len(seq.Ops), "", nil
}

// generate makes about n steps.
func generate(rng *rand.Rand, n int) sequence {
	seq := sequence{Stamped: rng.IntN(4) == 0}
	do := func(o op) { seq.Ops = append(seq.Ops, o) }
	for len(seq.Ops) < n {
		s, r, m := rng.IntN(seats), rng.Uint32(), rng.Uint32()
		switch x := rng.IntN(1000); {
		case x < 30 || len(seq.Ops) == 0: // a session as programs make it
			do(op{"close", s, 0, 0})
			do(op{"open", s, 0, 0})
			if rng.IntN(4) > 0 {
				do(op{"BIOCSETBUFMODE", s, 0, 0})
				do(op{"BIOCSETZBUF", s, r, 15})
			} else {
				do(op{"BIOCSBLEN", s, []uint32{32, 100, 300, 1000, 4096, 5000}[rng.IntN(6)], 0})
			}
			if rng.IntN(3) == 0 {
				do(op{"BIOCSETF", s, m, 0})
			}
			do(op{"BIOCSETIF", s, r, 0})
			if rng.IntN(3) == 0 {
				do(op{"BIOCIMMEDIATE", s, 1, 0})
			}
		case x < 45:
			do(op{[]string{"open", "close"}[rng.IntN(2)], s, r, 0})
		case x < 400:
			do(op{"inject", max(rng.IntN(5)-3, 0), r, m})
		case x < 470:
			do(op{"ack", s, r, 0})
		case x < 480:
			do(op{"misack", s, r, m})
		case x < 550:
			do(op{"BIOCROTZBUF", s, 0, 0})
		case x < 600:
			do(op{"read", s, r, 0})
		case x < 650:
			do(op{"poll", s, r, 0})
		case x < 720:
			do(op{"wait", s, r, 0})
		case x < 730:
			do(op{[]string{"wake", "detached"}[rng.IntN(2)], s, 0, 0})
		case x < 770:
			do(op{"write", s, r, m})
		case x < 790:
			do(op{"BIOCFLUSH", s, 0, 0})
		case x < 840:
			do(op{[]string{"BIOCSETF", "BIOCSETFNR", "BIOCSETWF"}[rng.IntN(3)], s, r, 0})
		case x < 855:
			do(op{"BIOCSETIF", s, r, 0})
		case x < 865:
			do(op{"BIOCIMMEDIATE", s, r % 2, 0})
		case x < 875:
			do(op{"BIOCSDIRECTION", s, r % 4, 0})
		case x < 882:
			do(op{"BIOCSTSTAMP", s, []uint32{0, 1, 2, 3, 0x100, 0x201, 0x302, 7}[r%8], 0})
		case x < 887:
			do(op{"BIOCFEEDBACK", s, r % 2, 0})
		case x < 891:
			do(op{"expire", s, 0, 0})
		case x < 894:
			do(op{"replug", 0, 0, 0})
		case x < 896:
			do(op{"rename", s, 0, 0})
		case x < 900:
			do(op{"zero", 0, r, 0})
		case x < 905:
			do(op{"sysctl", rng.IntN(5), r, 0})
		case x < 907:
			do(op{"BIOCLOCK", s, 0, 0})
		default:
			o := []string{"BIOCGBLEN", "BIOCSBLEN", "BIOCGDLT", "BIOCSDLT", "BIOCGRSIG", "BIOCSRSIG",
				"BIOCGHDRCMPLT", "BIOCGDIRECTION", "BIOCGTSTAMP",
				"BIOCGETBUFMODE", "BIOCSETVLANPCP", "BIOCPROMISC", "BIOCGETIF", "BIOCGDLTLIST", "BIOCGSTATS",
				"BIOCVERSION", "BIOCGRTIMEOUT",
				"BIOCSRTIMEOUT", "FIONREAD", "FIONREAD", "FIONREAD", "unknown", "BIOCSETBUFMODE", "BIOCGETZMAX",
				"BIOCSETZBUF"}
			name := o[rng.IntN(len(o))]
			arg := r
			switch name {
			case "BIOCSBLEN":
				arg = r % 6000
			case "BIOCSDLT":
				arg = r % 2
			case "BIOCSETVLANPCP":
				arg = r % 9
			case "BIOCSRSIG":
				arg = r % 40
			case "BIOCSRTIMEOUT":
				m %= 3e9
			}
			do(op{name, s, arg, m})
		}
	}
	return seq
}

// shorten leaves out what a difference does not need.
func shorten(a, b lab.World, seq sequence, at int) sequence {
	seq.Ops = slices.Clone(seq.Ops[:at+1])
	until := time.Now().Add(60 * time.Second)
	for n := len(seq.Ops) / 2; n > 0; n /= 2 {
		for i := 0; i+n <= len(seq.Ops) && time.Now().Before(until); {
			less := sequence{seq.Stamped, slices.Delete(slices.Clone(seq.Ops), i, i+n)}
			at, diff, err := play(a, b, less)
			if err == nil && diff != "" {
				less.Ops = less.Ops[:at+1]
				seq = less
			} else {
				i += n
			}
		}
	}
	return seq
}

// requireSame plays random sequences until n steps were made.
func requireSame(t *testing.T, a, b lab.World, n int) {
	rng := seeded(t)
	steps := 0
	from := time.Now()
	for steps < n {
		seq := generate(rng, 800)
		at, diff, err := play(a, b, seq)
		require.NoError(t, err, "after %d steps", steps)
		if diff != "" {
			short := shorten(a, b, seq, at)
			last, again, _ := play(a, b, short)
			if again == "" {
				again = "it did not show again"
			}
			require.Fail(t, "a difference", "after %d steps: %s\nshortened to %d steps, step %d: %s\n"+
				"replay: ZBUF_REPLAY='%v'", steps+at, diff, len(short.Ops), last, again, short)
		}
		if (steps+at)/10000 != steps/10000 {
			t.Logf("%d steps in %v", steps+at, time.Since(from).Round(time.Second))
		}
		steps += at
	}
	t.Logf("%d steps in %v without a difference", steps, time.Since(from).Round(time.Second))
	lab.Report(t, lab.Operations, uint64(steps))
}
