//go:build unix

package vmtest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// withUmask sets the mask of the modes of new files until the test ends.
func withUmask(t *testing.T, mask int) {
	was := syscall.Umask(mask)
	t.Cleanup(func() { syscall.Umask(was) })
}

func TestFilesFromTheGuest(t *testing.T) {
	withUmask(t, 0o022)
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "file")
	p := &plan{places: []place{{path: dir, folder: true}}}
	header := jsonFrame(t, wire.File, wire.FileHeader{Path: path, Mode: 0o640, Size: 4})
	whole := []received{header, {t: wire.Data, body: []byte("da")}, {t: wire.Data, body: []byte("ta")}}
	exit := jsonFrame(t, wire.Exit, wire.ExitStatus{})

	_, _, _, err := answerFor(t, p, header, received{t: wire.Data, body: []byte("da")})
	require.Error(t, err)
	assert.NoFileExists(t, path, "half a file does not appear")
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Empty(t, left, "nor anything of it")

	_, _, _, err = answerFor(t, p, append(append([]received{exit}, whole...),
		received{t: wire.End})...)
	require.NoError(t, err)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "data", string(b))
	fi, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o640), fi.Mode())
}

// guestFile is what a guest says about a file of one byte.
func guestFile(t *testing.T, path string, mode uint32) []received {
	return []received{jsonFrame(t, wire.File, wire.FileHeader{Path: path, Mode: mode, Size: 1}),
		{t: wire.Data, body: []byte("x")}}
}

func TestGuestWritesWhereItWasAskedTo(t *testing.T) {
	for _, tt := range []struct {
		name, path string // of the file, {d} being the folder asked for
		written    string // below {d}, or empty
		err        string
		notice     string
	}{
		{name: "a new file", path: "{d}/a/b", written: "a/b"},
		{name: "the folder's own name", path: "{d}", err: "nobody asked for"},
		{name: "a way up", path: "{d}/../x", err: "nobody asked for"},
		{name: "a way up and down", path: "{d}/a/../b", err: "nobody asked for"},
		{name: "a dot", path: "{d}/./b", err: "nobody asked for"},
		{name: "two slashes", path: "{d}//b", err: "nobody asked for"},
		{name: "a slash at the end", path: "{d}/b/", err: "nobody asked for"},
		{name: "a relative path", path: "b", err: "nobody asked for"},
		{name: "no path", path: "", err: "nobody asked for"},
		{name: "a byte of zero", path: "{d}/b\x00c", err: "nobody asked for"},
		{name: "a name that only begins alike", path: "{d}x/b", err: "nobody asked for"},
		{name: "the file that was asked for", path: "{d}/../cover.go", written: "../cover.go"},
		{name: "a file below that", path: "{d}/../cover.go/x", err: "nobody asked for"},
		{name: "a link in mid-path", path: "{d}/link/b", notice: "link is a symbolic link"},
		{name: "a link at the end", path: "{d}/link", notice: "link is a symbolic link"},
		{name: "a folder", path: "{d}/folder", notice: "folder is no regular file"},
		{name: "a file in mid-path", path: "{d}/program/b", notice: "program is no folder"},
		{name: "a program", path: "{d}/program", notice: "program is a program"},
		{name: "source", path: "{d}/a_test.go", notice: "the host's tools would run it"},
		{name: "a module", path: "{d}/x/go.mod", notice: "the host's tools would run it"},
		{name: "a hook", path: "{d}/.git/hooks/post-commit", notice: "begins with a dot"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "folder"), 0o755))
			outside := t.TempDir()
			require.NoError(t, os.Symlink(outside, filepath.Join(dir, "link")))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "program"), []byte("old"), 0o755))
			p := &plan{places: []place{{path: dir, folder: true},
				{path: filepath.Join(filepath.Dir(dir), "cover.go")}}}
			path := strings.Replace(tt.path, "{d}/../cover", filepath.Dir(dir)+"/cover", 1)
			path = strings.Replace(path, "{d}", dir, 1)

			frames := append(guestFile(t, path, 0o644), jsonFrame(t, wire.Exit, wire.ExitStatus{}),
				received{t: wire.End})
			_, _, stderr, err := answerFor(t, p, frames...)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, tt.notice != "", stderr != "", stderr)
			assert.Contains(t, stderr, tt.notice)

			old, err := os.ReadFile(filepath.Join(dir, "program"))
			require.NoError(t, err)
			assert.Equal(t, "old", string(old))
			entries, err := os.ReadDir(outside)
			require.NoError(t, err)
			assert.Empty(t, entries)
			var written []string
			require.NoError(t, filepath.WalkDir(filepath.Dir(dir), func(
				path string, d fs.DirEntry, err error,
			) error {
				if err == nil && d.Type().IsRegular() && d.Name() != "program" {
					rel, rerr := filepath.Rel(dir, path)
					require.NoError(t, rerr)
					written = append(written, rel)
				}
				return err
			}))
			if tt.written == "" {
				assert.Empty(t, written)
			} else {
				assert.Equal(t, []string{tt.written}, written)
			}
		})
	}
}

func TestModeOfAGuestsFile(t *testing.T) {
	withUmask(t, 0o027)
	dir := t.TempDir()
	for _, tt := range []struct{ mode, want fs.FileMode }{
		{0o777, 0o640}, {0o4777, 0o640}, {0o600, 0o600}, {0o666 | 1<<31, 0o640}, {0o400, 0o400}, {0, 0},
	} {
		path := filepath.Join(dir, fmt.Sprintf("%o", tt.mode))
		frames := append(guestFile(t, path, uint32(tt.mode)), jsonFrame(t, wire.Exit, wire.ExitStatus{}),
			received{t: wire.End})
		_, _, _, err := answerFor(t, &plan{places: []place{{path: dir, folder: true}}}, frames...)
		require.NoError(t, err)
		fi, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, tt.want, fi.Mode(), "%o", tt.mode)
	}
}

func TestBoundsOfAGuestsFiles(t *testing.T) {
	dir := t.TempDir()
	p := &plan{places: []place{{path: dir, folder: true}}}
	announce := func(name string, size int64) received {
		return jsonFrame(t, wire.File, wire.FileHeader{Path: filepath.Join(dir, name), Mode: 0o644,
			Size: size})
	}
	var many []received
	for range maxFiles + 1 {
		many = append(many, announce(".d", 0))
	}
	for _, tt := range []struct {
		name   string
		frames []received
		err    string
	}{
		{"a size below nothing", []received{announce("a", -1)}, "broken frame"},
		{"more bytes than announced", []received{announce("a", 1), {t: wire.Data, body: []byte("xy")}}, "broken frame"},
		{"bytes behind the end", []received{announce("a", 0), {t: wire.Data, body: []byte("x")}}, "broken frame"},
		{"a file in a file", []received{announce("a", 1), announce("b", 1)}, "broken frame"},
		{"no header", []received{{t: wire.File, body: []byte("{")}}, "broken frame"},
		{"more than may come", []received{announce("a", 1<<20+1)}, "raise --files-limit"},
		{"more in sum", []received{announce(".a", 1<<20), {t: wire.Data, body: make([]byte, 1<<20)}, announce("b", 1)}, "raise --files-limit"},
		{"the largest number", []received{announce(".a", 1), {t: wire.Data, body: []byte("x")}, announce("b", 1<<63-1)}, "raise --files-limit"},
		{"too many", many, "more than 10000 files"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, err := answerFor(t, p, append(tt.frames, jsonFrame(t, wire.Exit, wire.ExitStatus{}),
				received{t: wire.End})...)
			assert.ErrorContains(t, err, tt.err)
		})
	}
}

// FuzzLocate: wherever a guest points, what is accepted is below a place that was asked for.
func FuzzLocate(f *testing.F) {
	for _, s := range []string{"/work/x", "/work/../x", "/work", "//work/x", "/out/c.out",
		"/work/\x00", "/"} {
		f.Add(s)
	}
	r := receiver{places: []place{{path: "/work", folder: true}, {path: "/out/c.out"}}}
	f.Fuzz(func(t *testing.T, path string) {
		dir, name, named, ok := r.locate(path)
		if !ok {
			return
		}
		require.Equal(t, path, dir+"/"+name)
		require.True(t, named && path == "/out/c.out" || dir == "/work")
		require.True(t, filepath.IsLocal(name))
	})
}

func TestTextOfTheGuestIsEscaped(t *testing.T) {
	const escape = "\x1b[31m"
	fault, err := json.Marshal(wire.FaultReport{Sentence: "a" + escape, Console: "b" + escape})
	require.NoError(t, err)
	for _, f := range []received{
		{t: wire.Notice, body: []byte(escape)}, {t: wire.Fail, body: []byte(escape)},
		{t: wire.Fault, body: fault}, {t: wire.Console, body: []byte(escape)},
	} {
		_, _, stderr, err := answer(t, f)
		require.Error(t, err)
		text := err.Error() + stderr
		if fe, ok := err.(*Fault); ok {
			text += fe.Console
		}
		assert.NotContains(t, text, "\x1b", "%c", f.t)
	}
}
