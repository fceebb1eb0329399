//go:build unix

package vmtest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// answer makes the frames of a server that has handed over its guest.
func answer(t *testing.T, frames ...received) (code int, stdout, stderr string, err error) {
	t.Helper()
	return answerFor(t, &plan{}, frames...)
}

// answerFor does the same for a program that may leave files.
func answerFor(
	t *testing.T, p *plan, frames ...received,
) (code int, stdout, stderr string, err error) {
	t.Helper()
	in := make(chan received, len(frames)+2)
	in <- jsonFrame(t, wire.Ready, wire.ReadyReport{})
	for _, f := range frames {
		in <- f
	}
	in <- received{err: os.ErrClosed}
	var out, errOut, sent bytes.Buffer
	r := &runner{cfg: Config{FilesLimit: 1 << 20, Stdout: &out, Stderr: &errOut}}
	code, err = r.talk(wire.NewConn(&sent, &sent), in, nil, wire.RunRequest{}, p)
	return code, out.String(), errOut.String(), err
}

func jsonFrame(t *testing.T, typ wire.Type, v any) received {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return received{t: typ, body: b}
}

func TestResultNeedsTheEndMark(t *testing.T) {
	exit := func(code, sig int) received {
		return jsonFrame(t, wire.Exit, wire.ExitStatus{Code: code, Signal: sig})
	}
	end := received{t: wire.End}
	for _, tt := range []struct {
		name   string
		frames []received
		code   int
		err    string
	}{
		{"a whole run", []received{{t: wire.Stdout, body: []byte("PASS\n")}, exit(0, 0), end}, 0, ""},
		{"a failing run", []received{exit(1, 0), end}, 1, ""},
		{"killed by a signal", []received{exit(137, 9), end}, 137, ""},
		{"PASS and then nothing", []received{{t: wire.Stdout, body: []byte("PASS\n")}}, 0, "server is gone"},
		{"exit 0 without the end mark", []received{exit(0, 0)}, 0, "server is gone"},
		{"end mark without a status", []received{end}, 0, "without an exit status"},
		{"the agent gives up", []received{{t: wire.Fail, body: []byte("no room")}}, 0, "no room"},
		{"fault after exit 0", []received{exit(0, 0), jsonFrame(t, wire.Fault, wire.FaultReport{Sentence: "panicked"})}, 0, "panicked"},
		{"a code that would be cut to success", []received{exit(256, 0), end}, 0, "broken frame"},
		{"data without a file", []received{{t: wire.Data, body: []byte("x")}}, 0, "broken frame"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, _, err := answer(t, tt.frames...)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.code, code)
		})
	}
}

func TestStreamsStayApart(t *testing.T) {
	_, out, errOut, err := answer(t,
		received{t: wire.Stdout, body: []byte("a\x00\xff")}, received{t: wire.Stderr, body: []byte("e")},
		received{t: wire.Stdout, body: []byte("b")}, jsonFrame(t, wire.Exit, wire.ExitStatus{}),
		received{t: wire.End})
	require.NoError(t, err)
	assert.Equal(t, "a\x00\xffb", out)
	assert.Equal(t, "e", errOut)
}

func TestSignalBeforeTheStartEndsTheRunner(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGINT
	r := &runner{}
	code, err := r.talk(nil, nil, signals, wire.RunRequest{}, &plan{})
	require.NoError(t, err)
	assert.Equal(t, 130, code)
}

func TestPlan(t *testing.T) {
	dir := t.TempDir()
	write := func(names ...string) {
		for _, n := range names {
			p := filepath.Join(dir, n)
			require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
			require.NoError(t, os.WriteFile(p, make([]byte, 1000), 0o644))
		}
	}
	write("prog.test", "pkg/a.go", "pkg/sub/b.go", "pkg/testdata/deep/c", "cache/corpus", "extra/d/e")
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "pkg", "dangling")))
	abs := func(n string) string { return filepath.Join(dir, n) }
	pkg, prog := abs("pkg"), abs("prog.test")
	names := func(p *plan) (out []string) {
		for _, f := range p.files {
			rel, err := filepath.Rel(dir, f.path)
			require.NoError(t, err)
			out = append(out, rel)
		}
		return out
	}

	t.Run("a test takes its folder and testdata", func(t *testing.T) {
		p, err := makePlan(prog, true, nil, nil, pkg, nil, 1<<20)
		require.NoError(t, err)
		assert.Equal(t, []string{"prog.test", "pkg/a.go", "pkg/testdata/deep/c"}, names(p))
		assert.Equal(t, []place{{pkg, true}}, p.places)
	})
	t.Run("another program takes nothing", func(t *testing.T) {
		p, err := makePlan(prog, false, nil, nil, pkg, nil, 1<<20)
		require.NoError(t, err)
		assert.Equal(t, []string{"prog.test"}, names(p))
	})
	t.Run("places for output", func(t *testing.T) {
		p, err := makePlan(prog, true,
			[]string{"-test.v", "-test.coverprofile=" + abs("out/c.out"), "-test.outputdir", "rel",
				"-test.fuzzcachedir=" + abs("cache"), "-test.run=-test.trace"},
			[]string{"GOCOVERDIR=" + abs("cov"), "HOME=/home/me", "OTHER=/x"}, pkg, nil, 1<<20)
		require.NoError(t, err)
		assert.Equal(t, []place{{pkg, true}, {abs("out/c.out"), false}, {abs("pkg/rel"), true},
			{abs("cache"), true}, {abs("cov"), true}}, p.places)
		assert.Equal(t, []string{pkg, abs("out/c.out"), abs("pkg/rel"), abs("cache"), abs("cov")},
			p.collect())
		assert.Contains(t, names(p), "cache/corpus")
		for _, d := range []string{abs("out"), abs("pkg/rel"), abs("cov"), "/home/me"} {
			assert.Contains(t, p.dirs, d)
		}
	})
	t.Run("copies", func(t *testing.T) {
		p, err := makePlan(prog, false, nil, nil, pkg, []string{"../extra"}, 1<<20)
		require.NoError(t, err)
		assert.Equal(t, []string{"prog.test", "extra/d/e"}, names(p))
		_, err = makePlan(prog, false, nil, nil, pkg, []string{"missing"}, 1<<20)
		assert.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("too much", func(t *testing.T) {
		_, err := makePlan(prog, true, nil, nil, pkg, nil, 1500)
		assert.ErrorContains(t, err, "may go to the guest")
	})
}

func TestIsTest(t *testing.T) {
	assert.True(t, isTest("/tmp/b001/pkg.test", nil))
	assert.True(t, isTest("/tmp/renamed", []string{"-test.v"}))
	assert.False(t, isTest("/tmp/prog", []string{"-v"}))
}
