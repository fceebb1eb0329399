package zbuf_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// Since FreeBSD 14 the kernel still takes such a descriptor for promiscuous. Closing it on another
// interface takes a reference from that interface that it never had.
func TestAPromiscuousDescriptorIsNotAttachedAgain(t *testing.T) {
	type leave = func(*bpftest.Interface)
	var destroyed, moved leave = (*bpftest.Interface).Remove, (*bpftest.Interface).MoveAway
	for name, c := range map[string]struct {
		promiscuous, adopted bool
		leave                leave
		features             bpftest.Features
		refused              bool
	}{
		"promiscuous, destroyed": {promiscuous: true, leave: destroyed, refused: true},
		"promiscuous, destroyed, on 14": {promiscuous: true, leave: destroyed, refused: true,
			features: bpftest.FreeBSD14()},
		"promiscuous, moved to another vnet": {promiscuous: true, leave: moved, refused: true,
			features: bpftest.Features{VnetDetach: true}},
		"promiscuous, still there":      {promiscuous: true},
		"not promiscuous, destroyed":    {leave: destroyed},
		"adopted attached, destroyed":   {adopted: true, leave: destroyed, refused: true},
		"adopted attached, still there": {adopted: true},
	} {
		t.Run(name, func(t *testing.T) {
			attached := 0
			k := bpftest.New(bpftest.WithFeatures(c.features), bpftest.WithTrace(func(op string) {
				if op == "BIOCSETIF" {
					attached++
				}
			}))
			em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
			k.AddInterface("em1", zbuf.DLT_EN10MB)
			k.AddInterface("em2", zbuf.DLT_EN10MB)
			b, err := k.Open()
			require.NoError(t, err)
			d, err := zbuf.Adopt(b)
			require.NoError(t, err)
			defer d.Close()
			require.NoError(t, d.SetInterface("em0"))
			if c.promiscuous {
				require.NoError(t, d.SetPromiscuous())
			}
			if c.adopted {
				d, err = zbuf.Adopt(borrowed{b})
				require.NoError(t, err)
			}
			if c.leave != nil {
				c.leave(em0)
			}
			attached = 0
			err = d.SetInterface("em1")
			if c.refused {
				require.ErrorIs(t, err, zbuf.ErrReattachUnsafe)
				var e *zbuf.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, "em1", e.Interface)
				assert.Zero(t, attached, "the kernel was not asked")
				assert.ErrorIs(t, d.SetInterface("em1"), zbuf.ErrReattachUnsafe, "nor the second time")
				require.NoError(t, d.Close())
				require.NoError(t, k.Panicked())
				return
			}
			require.NoError(t, err)
			assert.Equal(t, 1, attached)
			k.Interface("em1").Remove()
			require.NoError(t, d.SetInterface("em2"), "the new interface was not promiscuous")
		})
	}
}

func TestAnAttachmentThatFailsChangesNothing(t *testing.T) {
	k, em0 := newKernel(t)
	d := open(t, k)
	require.NoError(t, d.SetInterface("em0"))
	require.NoError(t, d.SetPromiscuous())
	require.Error(t, d.SetInterface("em9"))
	assert.Equal(t, "em0", d.Name())
	em0.Remove()
	k.AddInterface("em1", zbuf.DLT_EN10MB)
	assert.ErrorIs(t, d.SetInterface("em1"), zbuf.ErrReattachUnsafe, "it is promiscuous still")
}
