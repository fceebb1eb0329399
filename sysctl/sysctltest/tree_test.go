package sysctltest_test

import (
	"fmt"
	"io/fs"
	"log"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/sysctl"
	"github.com/zbuf-go/zbuf/sysctl/sysctltest"
)

func str(name, value string) sysctltest.Var {
	return sysctltest.Value(name, sysctl.CTLTYPE_STRING, sysctl.CTLFLAG_RW, "A",
		append([]byte(value), 0))
}

func TestTree(t *testing.T) {
	tree := sysctltest.New(str("a.b.c", "1"), str("a.d", "2"))
	s := sysctl.New(tree)
	t.Run("a variable that is added again is replaced", func(t *testing.T) {
		tree.Add(str("a.d", "3"), str("x.y", "4"))
		got, err := s.String("a.d")
		require.NoError(t, err)
		require.Equal(t, "3", got)
	})
	t.Run("the walk is in the order of their coming", func(t *testing.T) {
		var all []string
		for name, err := range s.Walk("") {
			require.NoError(t, err)
			all = append(all, name)
		}
		require.Equal(t, []string{"a.b.c", "a.d", "x.y"}, all)
		require.Equal(t, 1, len(slices.Collect(keys(t, s, "a.b"))))
	})
	t.Run("no description is no error", func(t *testing.T) {
		text, err := s.Describe("a.d")
		require.NoError(t, err)
		require.Empty(t, text)
	})
	t.Run("errnos of the kernel's", func(t *testing.T) {
		for _, c := range []struct {
			mib  []int32
			old  []byte
			want error
		}{
			{[]int32{1}, nil, syscall.EINVAL},
			{make([]int32, 25), nil, syscall.EINVAL},
			{[]int32{1, 9}, nil, syscall.ENOENT},
			{[]int32{1, 1}, nil, syscall.EISDIR},
			{[]int32{1, 2, 1}, nil, syscall.ENOTDIR},
			{[]int32{1, 2}, make([]byte, 1), syscall.ENOMEM},
			{[]int32{0, 2, 2, 1}, nil, syscall.ENOENT},
			{[]int32{0, 77, 1}, nil, syscall.ENOENT},
		} {
			_, err := tree.Sysctl(c.mib, c.old, nil)
			require.Equal(t, c.want, err, "%v", c.mib)
		}
	})
	t.Run("processes", func(t *testing.T) {
		tree.Add(sysctltest.Processes(func(pid int) (string, bool) { return "cron", pid == 5 }))
		name, err := s.ProcessName(5)
		require.NoError(t, err)
		require.Equal(t, "cron", name)
		_, err = s.Raw("kern.proc.pid")
		require.ErrorIs(t, err, syscall.EINVAL)
	})
	t.Run("without root's rights", func(t *testing.T) {
		s := sysctl.New(sysctltest.New(sysctltest.BPF(bpftest.New(bpftest.WithUnprivileged()))...))
		require.ErrorIs(t, s.BPF().SetZeroCopyEnabled(true), fs.ErrPermission)
	})
}

func keys(t *testing.T, s sysctl.Tree, root string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name, err := range s.Walk(root) {
			require.NoError(t, err)
			if !yield(name) {
				return
			}
		}
	}
}

func ExampleBPF() {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	t := sysctl.New(sysctltest.New(sysctltest.BPF(k)...))
	on, err := t.BPF().ZeroCopyEnabled()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(on)
	// Output: true
}
