package sysctl_test

import (
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/sysctl"
	"github.com/zbuf-go/zbuf/sysctl/sysctltest"
)

func TestReadsAgainWhenTheAnswerGrows(t *testing.T) {
	for _, more := range []int{1, 3, 100} {
		t.Run(strconv.Itoa(more)+" more", func(t *testing.T) {
			everywhere(t, func(t *testing.T, w target) {
				before, err := w.tree.BPF().Stats()
				require.NoError(t, err)
				b := &between{System: w.tree.System()}
				b.do = func() { listen(t, w, more) }
				after, err := sysctl.New(b).BPF().Stats()
				require.NoError(t, err)
				require.Len(t, after, len(before)+more)
				if more == 100 {
					require.NotZero(t, b.calls, "the first room was too small")
				}
			})
		})
	}
}

func TestAnswersAreNotTrusted(t *testing.T) {
	broken := func(name string, typ sysctl.Type, value []byte) sysctl.Tree {
		return sysctl.New(sysctltest.New(sysctltest.Value(name, typ, sysctl.CTLFLAG_RW, "", value)))
	}
	for rule, tree := range map[string]sysctl.Tree{
		"nothing":        broken("a.b", sysctl.CTLTYPE_INT, nil),
		"too short":      broken("a.b", sysctl.CTLTYPE_INT, []byte{1, 2, 3}),
		"too long":       broken("a.b", sysctl.CTLTYPE_INT, make([]byte, 8)),
		"an array":       broken("a.b", sysctl.CTLTYPE_INT, make([]byte, 40)),
		"16 for 64 bits": broken("a.b", sysctl.CTLTYPE_U64, make([]byte, 2)),
	} {
		_, err := tree.Int64("a.b")
		require.ErrorIs(t, err, sysctl.ErrType, rule)
	}
	for rule, sys := range map[string]liar{
		"an answer longer than the room": {n: 1 << 20, more: 1},
		"an answer of 2^40 bytes":        {n: 1 << 40 >> (64 - strconv.IntSize), err: syscall.ENOMEM},
	} {
		_, err := sysctl.New(sys).Raw("a.b")
		require.Error(t, err, rule)
		_, err = sysctl.New(sys).Int64("a.b")
		require.Error(t, err, rule)
		for _, err := range sysctl.New(sys).Walk("") {
			require.Error(t, err, rule)
		}
	}
}

// liar answers everything with the same.
type liar struct {
	n    int
	err  error
	more int // than there is room for
}

func (l liar) Sysctl(mib []int32, old, new []byte) (int, error) {
	if old == nil {
		return l.n, nil
	}
	if l.more > 0 {
		return len(old) + l.more, nil
	}
	return l.n, l.err
}
