package bpftest_test

import (
	"os"
	"reflect"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

func TestSysctls(t *testing.T) {
	t.Run("integers, as FreeBSD boots with", func(t *testing.T) {
		k := bpftest.New()
		for name, want := range map[string]int32{
			"net.bpf.zerocopy_enable": 0, "net.bpf.maxinsns": 512, "net.bpf.bufsize": 4096,
			"net.bpf.maxbufsize": 524288, "net.bpf.optimize_writers": 0,
		} {
			v, err := k.Sysctl(name)
			require.NoError(t, err)
			require.Equal(t, want, v, name)
			require.NoError(t, k.SetSysctl(name, -5))
			var raw [8]byte
			n, err := k.ReadSysctl(name, raw[:])
			require.NoError(t, err)
			require.Equal(t, 4, n)
			require.NoError(t, k.WriteSysctl(name, raw[:4]))
			require.Equal(t, syscall.EINVAL, k.WriteSysctl(name, raw[:3]))
			_, err = k.ReadSysctl(name, raw[:3])
			require.Equal(t, syscall.ENOMEM, err)
			v, _ = k.Sysctl(name)
			require.EqualValues(t, -5, v)
		}
		_, err := k.Sysctl("net.bpf_jitter.enable")
		require.Equal(t, syscall.ENOENT, err)
		_, err = k.ReadSysctl("net.bpf", nil)
		require.Equal(t, syscall.ENOENT, err)
		require.Equal(t, syscall.ENOENT, k.SetSysctl("net.bpf", 1))
		require.Equal(t, syscall.ENOENT, k.WriteSysctl("net.bpf", nil))
		require.Panics(t, func() { bpftest.New(bpftest.WithSysctl("net.bpf", 1)) })
	})
	t.Run("without root's rights", func(t *testing.T) {
		k := bpftest.New(bpftest.WithUnprivileged())
		v, err := k.Sysctl("net.bpf.bufsize")
		require.NoError(t, err)
		require.EqualValues(t, 4096, v)
		require.Equal(t, syscall.EPERM, k.SetSysctl("net.bpf.bufsize", 1))
		require.Equal(t, syscall.EPERM, k.WriteSysctl("net.bpf.bufsize", make([]byte, 4)))
		_, err = k.ReadSysctl("net.bpf.stats", nil)
		require.Equal(t, syscall.EPERM, err)
		require.Equal(t, syscall.EPERM, k.WriteSysctl("net.bpf.stats", nil))
	})
	t.Run("net.bpf.stats lists attached descriptors, interface by interface, the newest first",
		func(t *testing.T) {
			k := newKernel()
			open(t, k)
			require.Empty(t, k.Stats())
			first := zerocopy(t, k)
			k.AddInterface("em1", zbuf.DLT_EN10MB)
			second := open(t, k).attach("em1")
			require.NoError(t, k.SetSysctl("net.bpf.optimize_writers", 1))
			third := open(t, k).attach("em0")
			first.do(zbuf.BIOCPROMISC, nil)
			first.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
			first.do(zbuf.BIOCLOCK, nil)
			const packets = 200
			first.receive(packets)
			_, err := second.Write(frame(64))
			require.NoError(t, err)
			_, err = second.Write(frame(9999))
			require.Equal(t, syscall.EMSGSIZE, err)

			size := int(reflect.TypeFor[zbuf.XbpfD]().Size())
			n, err := k.ReadSysctl("net.bpf.stats", nil)
			require.NoError(t, err)
			require.Equal(t, 3*size, n)
			_, err = k.ReadSysctl("net.bpf.stats", make([]byte, n-1))
			require.Equal(t, syscall.ENOMEM, err)
			raw := make([]byte, n+1)
			n, err = k.ReadSysctl("net.bpf.stats", raw)
			require.NoError(t, err)
			require.Equal(t, 3*size, n)

			st := k.Stats()
			var em0, em1 [16]byte
			copy(em0[:], "em0")
			copy(em1[:], "em1")
			require.Equal(t, zbuf.XbpfD{
				Structsize: uint32(size), Direction: 1, Sig: 23, Bufsize: 4096, Pid: int32(os.Getpid()),
				Ifname: em1,
				Rcount: 1, Fcount: 1, Slen: st[0].Slen, Wcount: 2, Wfcount: 1, Wdcount: 1, Bufmode: 1,
			}, st[0])
			require.Equal(t, zbuf.XbpfD{
				Structsize: uint32(size), Direction: 1, Sig: 23, Bufsize: 4096, Pid: int32(os.Getpid()),
				Ifname: em0, Bufmode: 1,
			}, st[1], "the writer before the reader")
			require.Equal(t, zbuf.XbpfD{
				Structsize: uint32(size), Promisc: 1, Direction: 0, Sig: 23, Bufsize: page - 32,
				Pid: int32(os.Getpid()), Ifname: em0, Rcount: packets, Fcount: packets, Dcount: st[2].Dcount,
				Slen: st[2].Slen, Hlen: st[2].Hlen, Locked: 1, Zcopy: 2 * (packets - st[2].Dcount), Bufmode: 2,
			}, st[2])

			require.NotZero(t, st[2].Dcount)
			require.Equal(t, int32(first.nread()), st[2].Slen+st[2].Hlen)
			_, err = third.Write(frame(64))
			require.NoError(t, err)
			require.Equal(t, syscall.EINVAL, k.WriteSysctl("net.bpf.stats", make([]byte, size-1)))
			require.Equal(t, syscall.EINVAL, k.WriteSysctl("net.bpf.stats", raw[:size]))
			require.NoError(t, k.WriteSysctl("net.bpf.stats", make([]byte, size)))
			st = k.Stats()
			require.Zero(t, st[0].Rcount+st[0].Fcount+st[0].Dcount+st[0].Wcount+st[0].Wfcount+st[2].Zcopy)
			require.EqualValues(t, 1, st[0].Wdcount, "not this one")
			require.EqualValues(t, 1, st[1].Wcount, "nor those that only write")
		})
}
