package sysctl_test

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/sysctl"
)

// exactly returns the pattern for -test.run that matches only this test.
func exactly(name string) string { return strings.ReplaceAll(name, "/", "$/^") }

func TestGet(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		t.Run("a string comes without its NUL", func(t *testing.T) {
			s, err := w.tree.String("kern.ostype")
			require.NoError(t, err)
			require.Equal(t, "FreeBSD", s)
		})
		t.Run("the same integer in every width", func(t *testing.T) {
			a, err := w.tree.Int32("kern.osreldate")
			require.NoError(t, err)
			require.Greater(t, a, int32(1200000))
			b, err := w.tree.Uint32("kern.osreldate")
			require.NoError(t, err)
			c, err := w.tree.Int64("kern.osreldate")
			require.NoError(t, err)
			d, err := w.tree.Uint64("kern.osreldate")
			require.NoError(t, err)
			require.Equal(t, []uint64{d, d, d}, []uint64{uint64(a), uint64(b), uint64(c)})
		})
		t.Run("an unsigned long", func(t *testing.T) {
			n, err := w.tree.Uint64("hw.physmem")
			require.NoError(t, err)
			require.Greater(t, n, uint64(16<<20))
		})
		t.Run("one byte", func(t *testing.T) {
			n, err := w.tree.Uint32("kern.powercycle_on_panic")
			require.NoError(t, err)
			require.LessOrEqual(t, n, uint32(1))
			require.ErrorIs(t, w.tree.Set("kern.powercycle_on_panic", 256), sysctl.ErrRange)
			require.ErrorIs(t, w.tree.Set("kern.powercycle_on_panic", -1), sysctl.ErrRange)
			restore, err := w.tree.Override("kern.powercycle_on_panic", true)
			require.NoError(t, err)
			n, err = w.tree.Uint32("kern.powercycle_on_panic")
			require.NoError(t, err)
			require.NoError(t, restore())
			require.Equal(t, uint32(1), n)
		})
		t.Run("a struct", func(t *testing.T) {
			type clockinfo struct{ Hz, Tick, Spare, Stathz, Profhz int32 }
			c, err := sysctl.Slice[clockinfo](w.tree, "kern.clockrate")
			require.NoError(t, err)
			require.Len(t, c, 1)
			require.NotZero(t, c[0].Hz)
			require.Equal(t, int32(1000000), c[0].Hz*c[0].Tick, "a tick in µs")
		})
		t.Run("an array", func(t *testing.T) {
			var n int
			if size, _ := sysctl.CTLTYPE_LONG.Integer(); size == 4 {
				v, err := sysctl.Slice[uint32](w.tree, "kern.cp_time")
				require.NoError(t, err)
				n = len(v)
			} else {
				v, err := sysctl.Slice[uint64](w.tree, "kern.cp_time")
				require.NoError(t, err)
				n = len(v)
			}
			require.Equal(t, 5, n, "CPUSTATES")
		})
		t.Run("raw, with numbers behind the name", func(t *testing.T) {
			b, err := w.tree.Raw("kern.proc.pid", int32(os.Getpid()))
			require.NoError(t, err)
			require.Contains(t, []int{1088, 816, 768}, len(b))
		})
		t.Run("a process's name", func(t *testing.T) {
			name, err := w.tree.ProcessName(os.Getpid())
			require.NoError(t, err)
			require.Equal(t, program(), name)
		})
		t.Run("a process that is not there has no name", func(t *testing.T) {
			name, err := w.tree.ProcessName(math.MaxInt32)
			require.NoError(t, err)
			require.Empty(t, name)
		})
	})
}

func TestErrors(t *testing.T) {
	get32 := func(name string) func(sysctl.Tree) error {
		return func(tr sysctl.Tree) error { _, err := tr.Int32(name); return err }
	}
	set := func(name string, v any) func(sysctl.Tree) error {
		return func(tr sysctl.Tree) error { return tr.Set(name, v) }
	}
	type point struct{ A, B int32 }
	for _, c := range []struct {
		rule  string
		name  string
		call  func(sysctl.Tree) error
		is    error
		errno error
	}{
		{"unknown name", "net.bpf.nothing", get32("net.bpf.nothing"), fs.ErrNotExist, syscall.ENOENT},
		{"empty name", "", get32(""), fs.ErrNotExist, syscall.ENOENT},
		{"name with a NUL", "net.bpf.bufsize\x00x", get32("net.bpf.bufsize\x00x"), fs.ErrNotExist, syscall.ENOENT},
		{"name with another behind a value", "kern.ostype.x", get32("kern.ostype.x"), fs.ErrNotExist, syscall.ENOENT},
		{"set of an unknown name", "net.bpf.nothing", set("net.bpf.nothing", 1), fs.ErrNotExist, syscall.ENOENT},
		{"describe an unknown name", "a.b", func(tr sysctl.Tree) error {
			_, err := tr.Describe("a.b")
			return err
		}, fs.ErrNotExist, syscall.ENOENT},
		{"format of an unknown name", "a.b", func(tr sysctl.Tree) error {
			_, err := tr.Format("a.b")
			return err
		}, fs.ErrNotExist, syscall.ENOENT},
		{"walk of an unknown name", "a.b", func(tr sysctl.Tree) (err error) {
			for _, err = range tr.Walk("a.b") {
			}
			return err
		}, fs.ErrNotExist, syscall.ENOENT},
		{"override an unknown name", "a.b", func(tr sysctl.Tree) error {
			_, err := tr.Override("a.b", 1)
			return err
		}, fs.ErrNotExist, syscall.ENOENT},
		{"string read as an integer", "kern.ostype", get32("kern.ostype"), sysctl.ErrType, nil},
		{"integer read as a string", "kern.osreldate", func(tr sysctl.Tree) error {
			_, err := tr.String("kern.osreldate")
			return err
		}, sysctl.ErrType, nil},
		{"array read as an integer", "kern.cp_time", get32("kern.cp_time"), sysctl.ErrType, syscall.ENOMEM},
		{"folder read as an integer", "net.bpf", get32("net.bpf"), sysctl.ErrType, nil},
		{"folder read raw", "net.bpf", func(tr sysctl.Tree) error {
			_, err := tr.Raw("net.bpf")
			return err
		}, sysctl.ErrType, syscall.EISDIR},
		{"number behind a value", "kern.osreldate", func(tr sysctl.Tree) error {
			_, err := tr.Raw("kern.osreldate", 1)
			return err
		}, sysctl.ErrType, syscall.ENOTDIR},
		{"integers read as structs", "kern.cp_time", func(tr sysctl.Tree) error {
			_, err := sysctl.Slice[point](tr, "kern.cp_time")
			return err
		}, sysctl.ErrType, nil},
		{"integers read as other integers", "kern.cp_time", func(tr sysctl.Tree) error {
			_, err := sysctl.Slice[uint16](tr, "kern.cp_time")
			return err
		}, sysctl.ErrType, nil},
		{"struct without a fixed size", "kern.proc.pid", func(tr sysctl.Tree) error {
			_, err := sysctl.Slice[struct{ S string }](tr, "kern.proc.pid", 1)
			return err
		}, sysctl.ErrType, nil},
		{"part of a struct", "kern.proc.pid", func(tr sysctl.Tree) error {
			_, err := sysctl.Slice[[5]int32](tr, "kern.proc.pid", int32(os.Getpid()))
			return err
		}, sysctl.ErrType, nil},
		{"string for an integer", "net.bpf.bufsize", set("net.bpf.bufsize", "4096"), sysctl.ErrType, nil},
		{"integer for a string", "kern.hostname", set("kern.hostname", 1), sysctl.ErrType, nil},
		{"nil for an integer", "net.bpf.bufsize", set("net.bpf.bufsize", nil), sysctl.ErrType, nil},
		{"float for an integer", "net.bpf.bufsize", set("net.bpf.bufsize", 1.5), sysctl.ErrType, nil},
		{"8 bytes for an int", "net.bpf.bufsize", set("net.bpf.bufsize", make([]byte, 8)), sysctl.ErrType, nil},
		{"set of a folder", "net.bpf", set("net.bpf", []byte{1}), sysctl.ErrType, syscall.EISDIR},
		{"override of a node", "net.bpf.stats", func(tr sysctl.Tree) error {
			_, err := tr.Override("net.bpf.stats", []byte{0})
			return err
		}, sysctl.ErrType, nil},
		{"more than an int", "net.bpf.bufsize", set("net.bpf.bufsize", int64(math.MaxInt32)+1), sysctl.ErrRange, nil},
		{"less than an int", "net.bpf.bufsize", set("net.bpf.bufsize", int64(math.MinInt32)-1), sysctl.ErrRange, nil},
		{"unsigned more than an int", "net.bpf.bufsize", set("net.bpf.bufsize", uint64(math.MaxUint64)), sysctl.ErrRange, nil},
		{"string with a NUL", "kern.hostname", set("kern.hostname", "a\x00b"), sysctl.ErrRange, nil},
		{"process id of more than 32 bits", "kern.proc.pid", func(tr sysctl.Tree) error {
			wide := int64(1) << 32
			if int64(int(wide)) != wide {
				// an int has 32 bits here
				return &sysctl.Error{Op: "get", Name: "kern.proc.pid", Err: sysctl.ErrRange}
			}
			_, err := tr.ProcessName(int(wide))
			return err
		}, sysctl.ErrRange, nil},
		{"wrong size of statistics", "net.bpf.stats", set("net.bpf.stats", make([]byte, 100)), sysctl.ErrRange, syscall.EINVAL},
		{"statistics that are not zero", "net.bpf.stats", set("net.bpf.stats", append(make([]byte, 167), 1)), sysctl.ErrRange, syscall.EINVAL},
		{"read-only integer", "kern.osreldate", set("kern.osreldate", 1), sysctl.ErrReadOnly, syscall.EPERM},
		{"read-only string", "kern.ostype", set("kern.ostype", "Linux"), sysctl.ErrReadOnly, syscall.EPERM},
		{"read-only is permission, too", "kern.ostype", set("kern.ostype", "Linux"), fs.ErrPermission, syscall.EPERM},
		{"override of a read-only", "kern.ostype", func(tr sysctl.Tree) error {
			_, err := tr.Override("kern.ostype", "x")
			return err
		}, sysctl.ErrReadOnly, syscall.EPERM},
	} {
		t.Run(c.rule, func(t *testing.T) {
			everywhere(t, func(t *testing.T, w target) {
				err := c.call(w.tree)
				require.ErrorIs(t, err, c.is)
				var named *sysctl.Error
				require.ErrorAs(t, err, &named)
				require.Equal(t, c.name, named.Name)
				require.Contains(t, err.Error(), c.name)
				var errno syscall.Errno
				if c.errno != nil {
					require.ErrorIs(t, err, c.errno)
				} else {
					require.False(t, errors.As(err, &errno), "no errno: the kernel was not asked; got %v", err)
				}
				for _, other := range []error{sysctl.ErrType, sysctl.ErrRange, sysctl.ErrReadOnly,
					fs.ErrNotExist} {
					if other != c.is && c.is != fs.ErrPermission {
						require.NotErrorIs(t, err, other)
					}
				}
				t.Log(err)
			})
		})
	}
}

func TestWithoutRoot(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		w.unprivileged(t, func(t *testing.T, tree sysctl.Tree) {
			for rule, call := range map[string]func() error{
				"set an integer":   func() error { return tree.Set("net.bpf.bufsize", 8192) },
				"switch zero-copy": func() error { return tree.BPF().SetZeroCopyEnabled(true) },
				"override": func() error {
					_, err := tree.Override("net.bpf.bufsize", 8192)
					return err
				},
				"read the statistics":  func() error { _, err := tree.BPF().Stats(); return err },
				"reset the statistics": func() error { return tree.BPF().ResetStats() },
			} {
				err := call()
				require.ErrorIs(t, err, fs.ErrPermission, rule)
				require.ErrorIs(t, err, syscall.EPERM, rule)
				require.NotErrorIs(t, err, sysctl.ErrReadOnly, rule)
				require.Contains(t, err.Error(), "net.bpf.", rule)
			}
			require.ErrorIs(t, tree.Set("kern.ostype", "x"), sysctl.ErrReadOnly)
			n, err := tree.BPF().MaxInsns()
			require.NoError(t, err, "reading is free")
			require.Equal(t, int32(512), n)
			f, err := tree.Format("net.bpf.bufsize")
			require.NoError(t, err)
			require.Equal(t, sysctl.CTLTYPE_INT, f.Type)
			text, err := tree.Describe("net.bpf.bufsize")
			require.NoError(t, err)
			require.NotEmpty(t, text)
		})
	})
}

func TestFormat(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		release, err := w.tree.Uint32("kern.osreldate")
		require.NoError(t, err)
		// Since 14 the loader can set it, too.
		tunable, writers := release >= 1_400_000, "int, read-write"
		if tunable {
			writers += ", tunable"
		}
		for _, c := range []struct {
			name     string
			typ      sysctl.Type
			fmt      string
			readOnly bool
			tunable  bool
			text     string
		}{
			{"net.bpf.zerocopy_enable", sysctl.CTLTYPE_INT, "I", false, false, "int, read-write"},
			{"net.bpf.maxinsns", sysctl.CTLTYPE_INT, "I", false, false, "int, read-write"},
			{"net.bpf.bufsize", sysctl.CTLTYPE_INT, "I", false, false, "int, read-write"},
			{"net.bpf.maxbufsize", sysctl.CTLTYPE_INT, "I", false, false, "int, read-write"},
			{"net.bpf.optimize_writers", sysctl.CTLTYPE_INT, "I", false, tunable, writers},
			{"net.bpf.stats", sysctl.CTLTYPE_NODE, "N", false, false, "node, read-write"},
			{"net.bpf", sysctl.CTLTYPE_NODE, "N", false, false, "node, read-write"},
			{"kern.ostype", sysctl.CTLTYPE_STRING, "A", true, false, "string, read-only"},
			{"kern.maxproc", sysctl.CTLTYPE_INT, "I", true, true, "int, read-only, tunable"},
			{"kern.clockrate", sysctl.CTLTYPE_OPAQUE, "S,clockinfo", true, false, "struct clockinfo, read-only"},
			{"kern.powercycle_on_panic", sysctl.CTLTYPE_U8, "CU", false, true, "uint8, read-write, tunable"},
			{"kern.cp_time", sysctl.CTLTYPE_LONG, "LU", true, false, "long, read-only"},
		} {
			f, err := w.tree.Format(c.name)
			require.NoError(t, err, c.name)
			require.Equal(t, c.typ, f.Type, c.name)
			require.Equal(t, c.fmt, f.Fmt, c.name)
			require.Equal(t, c.readOnly, f.ReadOnly(), c.name)
			require.Equal(t, c.tunable, f.Tunable(), c.name)
			require.Equal(t, c.text, f.String(), c.name)
		}
		f, err := w.tree.Format("net.bpf.optimize_writers")
		require.NoError(t, err)
		require.NotZero(t, f.Flags&sysctl.CTLFLAG_VNET)
		text, err := w.tree.Describe("net.bpf.zerocopy_enable")
		require.NoError(t, err)
		require.Contains(t, text, "zero-copy")
	})
}
