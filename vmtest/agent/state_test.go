package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeMachine is a machine in memory. An epair's end takes its other end along.
type fakeMachine struct {
	ifs      map[string]string
	mnts     []string
	settings map[string]string
	names    []string
	rest     string
	lost     uint64

	stuck map[string]bool // what does not go away or back
}

var errStuck = errors.New("stuck")

func newFake() *fakeMachine {
	return &fakeMachine{
		ifs:      map[string]string{"lo0": "up 127.0.0.1"},
		mnts:     []string{"/", "/dev"},
		settings: map[string]string{"net.a": "1", "net.b": "2"},
		names:    []string{"net.a", "net.b"},
		rest:     "modules 1 jails 1",
		lost:     3,
		stuck:    map[string]bool{},
	}
}

func (f *fakeMachine) interfaces() (map[string]string, error) {
	out := map[string]string{}
	for k, v := range f.ifs {
		out[k] = v
	}
	return out, nil
}

func (f *fakeMachine) destroyInterface(name string) error {
	if _, ok := f.ifs[name]; !ok || f.stuck[name] {
		return fmt.Errorf("destroy %s: %w", name, errStuck)
	}
	delete(f.ifs, name)
	if end := name[len(name)-1]; end == 'a' || end == 'b' {
		delete(f.ifs, name[:len(name)-1]+string('a'+'b'-end))
	}
	return nil
}

func (f *fakeMachine) mounts() ([]string, error) { return slices.Clone(f.mnts), nil }

func (f *fakeMachine) unmount(path string) error {
	if i := slices.Index(f.mnts, path); f.stuck[path] || i != len(f.mnts)-1 {
		return fmt.Errorf("unmount %s: %w", path, errStuck) // only the last can go
	}
	f.mnts = f.mnts[:len(f.mnts)-1]
	return nil
}

func (f *fakeMachine) readSetting(i int) ([]byte, error) {
	return []byte(f.settings[f.names[i]]), nil
}
func (f *fakeMachine) settingName(i int) string   { return f.names[i] }
func (f *fakeMachine) others() (string, error)    { return f.rest, nil }
func (f *fakeMachine) overflows() (uint64, error) { return f.lost, nil }

func (f *fakeMachine) writeSetting(i int, v []byte) error {
	if !f.stuck[f.names[i]] {
		f.settings[f.names[i]] = string(v)
	}
	return nil
}

func TestRestore(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *fakeMachine)
		want   string // part of the error, empty for a machine as good as new
	}{
		{"nothing was done", func(*fakeMachine) {}, ""},
		{"interfaces go, pairs too", func(f *fakeMachine) {
			f.ifs["epair0a"], f.ifs["epair0b"], f.ifs["tap0"] = "", "", ""
		}, ""},
		{"an interface stays", func(f *fakeMachine) { f.ifs["tap0"] = ""; f.stuck["tap0"] = true },
			"interface tap0 stays"},
		{"an address is added", func(f *fakeMachine) { f.ifs["lo0"] = "up 127.0.0.1 10.0.0.1" },
			"interface lo0 is"},
		{"an interface is missing", func(f *fakeMachine) { delete(f.ifs, "lo0") }, "interface lo0 is"},
		{"mounts go, last first", func(f *fakeMachine) { f.mnts = append(f.mnts, "/vm", "/vm/dev") }, ""},
		{"a mount stays", func(f *fakeMachine) { f.mnts = append(f.mnts, "/vm"); f.stuck["/vm"] = true },
			"unmount /vm"},
		{"settings go back", func(f *fakeMachine) { f.settings["net.b"] = "9" }, ""},
		{"a setting stays", func(f *fakeMachine) { f.settings["net.b"] = "9"; f.stuck["net.b"] = true },
			"net.b does not go back"},
		{"the wires' queue overflowed", func(f *fakeMachine) { f.lost += 2 }, "the queue of all epairs " +
			"overflowed (2 frames)"},
		{"a module was loaded", func(f *fakeMachine) { f.rest = "modules 1 2 jails 1" },
			"modules and jails are"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			ifs, _ := f.interfaces()
			mnts, _ := f.mounts()
			b := &baseline{m: f, interfaces: ifs, mounts: mnts, settings: [][]byte{[]byte("1"), []byte("2")},
				others: f.rest, overflows: f.lost}
			tt.change(f)
			err := b.restore()
			if tt.want != "" {
				assert.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, newFake(), f)
		})
	}
}

func TestDrops(t *testing.T) {
	record := func(size, proto uint32, drops uint64) []byte {
		b := make([]byte, size)
		binary.NativeEndian.PutUint32(b, size)
		binary.NativeEndian.PutUint32(b[8:], proto)
		binary.NativeEndian.PutUint64(b[48:], drops)
		return b
	}
	for _, tt := range []struct {
		name string
		work []byte
		want uint64
		err  string
	}{
		{"no thread", nil, 0, ""},
		{"other protocols do not count", record(128, 1, 5), 0, ""},
		{"all threads count", slices.Concat(record(128, 8, 5), record(128, 1, 9), record(128, 8, 2)), 7, ""},
		{"a longer struct", slices.Concat(record(136, 8, 5), record(136, 8, 2)), 7, ""},
		{"cut short", record(128, 8, 5)[:100], 0, "a record of 128 bytes where 100 are left"},
		{"no length", make([]byte, 128), 0, "a record of 0 bytes where 128 are left"},
		{"a stub", make([]byte, 8), 0, "8 bytes are left"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := drops(tt.work, 8)
			if tt.err != "" {
				assert.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestScanFindsWhatWasWritten(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(root+name), 0o755))
		require.NoError(t, os.WriteFile(root+name, []byte(text), 0o644))
	}
	for _, n := range []string{"/w/same", "/w/grown", "/w/touched", "/w/replaced", "/elsewhere/x"} {
		write(n, "old")
	}
	require.NoError(t, os.Symlink("same", root+"/w/link"))
	collect := []string{"/w", "/out/profile", "/not/there"}
	before, err := scanIn(root, collect)
	require.NoError(t, err)
	assert.Len(t, before, 4)

	write("/w/grown", "old and new")
	require.NoError(t, os.Chtimes(root+"/w/touched", time.Time{}, time.Now().Add(time.Hour)))
	fi, err := os.Stat(root + "/w/replaced")
	require.NoError(t, err)
	write("/w/replaced.new", "new")
	require.NoError(t, os.Chtimes(root+"/w/replaced.new", time.Time{}, fi.ModTime()))
	require.NoError(t, os.Rename(root+"/w/replaced.new", root+"/w/replaced"))
	write("/w/sub/new", "")
	write("/out/profile", "p")
	write("/out/other", "not asked for")
	write("/elsewhere/x", "not asked for")
	after, err := scanIn(root, collect)
	require.NoError(t, err)
	assert.Equal(t, []string{"/out/profile", "/w/grown", "/w/replaced", "/w/sub/new", "/w/touched"},
		changed(before, after))
}
