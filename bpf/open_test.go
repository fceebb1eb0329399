package bpf_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

func TestAutoFallsBackAndSaysWhy(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  []bpftest.Option
		setup func(*bpftest.Kernel)
		mode  bpf.Mode
		why   error
	}{
		{name: "granted", opts: []bpftest.Option{zerocopyOn(true)}, mode: bpf.ZeroCopy},
		{name: "disabled", opts: []bpftest.Option{zerocopyOn(false)}, mode: bpf.Buffered, why: zbuf.ErrZeroCopyDisabled},
		{name: "32-bit program", opts: []bpftest.Option{zerocopyOn(true), bpftest.WithCompat32()}, mode: bpf.Buffered, why: syscall.EINVAL},
		{name: "SETZBUF refused", opts: []bpftest.Option{zerocopyOn(true)}, mode: bpf.Buffered,
			why:   syscall.EFAULT,
			setup: func(k *bpftest.Kernel) { k.FailNext("BIOCSETZBUF", 1, syscall.EFAULT) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, mode := range []bpf.Mode{bpf.Auto, bpf.ZeroCopy} {
				k := bpftest.New(c.opts...)
				em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
				if c.setup != nil {
					c.setup(k)
				}
				r, err := bpf.Open("em0", bpf.Config{System: k, Mode: mode})
				if mode == bpf.ZeroCopy && c.why != nil {
					assert.ErrorIs(t, err, bpf.ErrZeroCopyRefused)
					assert.ErrorIs(t, err, c.why)
					assert.Zero(t, k.OpenCount())
					assert.Zero(t, k.MappedBytes())
					continue
				}
				require.NoError(t, err)
				got, reason := r.Mode()
				assert.Equal(t, c.mode, got)
				if c.why == nil {
					assert.NoError(t, reason)
				} else {
					assert.ErrorIs(t, reason, bpf.ErrZeroCopyRefused)
					assert.ErrorIs(t, reason, c.why)
				}
				em0.Receive(numbered(3, 64))
				data, _, err := r.ReadPacket(t.Context())
				require.NoError(t, err)
				assert.EqualValues(t, 3, number(t, data))
				require.NoError(t, r.Close())
			}
		})
	}
}

func TestOtherFailuresAreErrors(t *testing.T) {
	for _, c := range []struct {
		op  string
		err syscall.Errno
	}{{"open", syscall.EACCES}, {"BIOCSETBUFMODE", syscall.EIO}, {"BIOCGETZMAX", syscall.EIO},
		{"map", syscall.ENOMEM}, {"BIOCSETIF", syscall.ENXIO}} {
		t.Run(c.op, func(t *testing.T) {
			k := bpftest.New(zerocopyOn(true))
			k.AddInterface("em0", zbuf.DLT_EN10MB)
			k.FailNext(c.op, 1, c.err)
			_, err := bpf.Open("em0", bpf.Config{System: k})
			assert.ErrorIs(t, err, c.err)
			assert.Zero(t, k.OpenCount())
			assert.Zero(t, k.MappedBytes())
		})
	}
}

func TestGuardNeedsMemoryThatCanBeProtected(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		k := bpftest.New(zerocopyOn(true))
		k.AddInterface("em0", zbuf.DLT_EN10MB)
		_, err := bpf.Open("em0", bpf.Config{System: k, Mode: mode, Guard: true})
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		assert.Zero(t, k.OpenCount())
		assert.Zero(t, k.MappedBytes())
	}
}

func TestLinkTypes(t *testing.T) {
	const radiotap = 127
	modes(t, func(t *testing.T, mode bpf.Mode) {
		k := bpftest.New(zerocopyOn(true))
		wlan0 := k.AddInterface("wlan0", zbuf.DLT_EN10MB, bpftest.AlsoDLT(radiotap, 0))
		open := func(want ...uint32) (*bpf.Reader, error) {
			return bpf.Open("wlan0", bpf.Config{System: k, Mode: mode, LinkTypes: want, Immediate: true})
		}
		for _, c := range []struct{ want, got []uint32 }{
			{nil, []uint32{zbuf.DLT_EN10MB}},
			{[]uint32{radiotap}, []uint32{radiotap}},
			{[]uint32{9999, radiotap, zbuf.DLT_EN10MB}, []uint32{radiotap}},
		} {
			r, err := open(c.want...)
			require.NoError(t, err)
			assert.Equal(t, c.got[0], r.LinkType())
			types, err := r.LinkTypes()
			require.NoError(t, err)
			assert.ElementsMatch(t, []uint32{zbuf.DLT_EN10MB, radiotap}, types)
			wlan0.Inject(bpftest.Packet{Data: numbered(1, 64), DLT: c.got[0]})
			data, _, err := r.ReadPacket(t.Context())
			require.NoError(t, err)
			assert.EqualValues(t, 1, number(t, data))
			require.NoError(t, r.Close())
		}
		_, err := open(9999)
		assert.ErrorIs(t, err, bpf.ErrLinkType)
		assert.ErrorContains(t, err, ": wlan0 offers EN10MB and IEEE802_11_RADIO, not DLT 9999")
		assert.Zero(t, k.OpenCount())
	})
}

// An open descriptor of somebody else's serves as well as a fresh one.
func TestAdoptedDescriptor(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		k := bpftest.New(zerocopyOn(true))
		em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
		b, err := k.Open()
		require.NoError(t, err)
		dev, err := zbuf.Adopt(b)
		require.NoError(t, err)
		r, err := bpf.Open("em0", bpf.Config{Device: dev, Mode: mode})
		require.NoError(t, err)
		em0.Receive(numbered(1, 64))
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, number(t, data))
		require.NoError(t, r.Close())
		assert.Zero(t, k.OpenCount())
	})
}

func TestConfigIsCheckedBeforeAnythingIsOpened(t *testing.T) {
	for name, cfg := range map[string]bpf.Config{
		"mode":        {Mode: 9},
		"buffer size": {BufferSize: -1},
		"snaplen":     {SnapLen: -1},
		"timeout":     {ReadTimeout: -5},
		"direction":   {Direction: 3},
		"resolution":  {Resolution: 17},
		"clock":       {Clock: -1},
		"filter":      {Filter: []xbpf.RawInstruction{{Op: 5, K: 9}}},
	} {
		t.Run(name, func(t *testing.T) {
			k := bpftest.New()
			k.AddInterface("em0", zbuf.DLT_EN10MB)
			k.FailNext("open", 1, errors.New("opened"))
			cfg.System = k
			_, err := bpf.Open("em0", cfg)
			assert.ErrorIs(t, err, bpf.ErrConfig)
			assert.NotContains(t, err.Error(), "opened")
		})
	}
}
