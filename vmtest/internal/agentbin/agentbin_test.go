package agentbin

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func source(text string) fstest.MapFS {
	return fstest.MapFS{
		"agent/main.go":      {Data: []byte(text)},
		"agent/main_test.go": {Data: []byte("package main")},
	}
}

const program = "package main\n\nfunc main() {}\n"

func TestHashIsThatOfTheProgram(t *testing.T) {
	hash := func(s fstest.MapFS) string {
		h, err := Hash(s)
		require.NoError(t, err)
		return h
	}
	a := source(program)
	assert.Equal(t, hash(a), hash(source(program)))
	assert.NotEqual(t, hash(a), hash(source(program+"//")))
	delete(a, "agent/main_test.go")
	assert.Equal(t, hash(source(program)), hash(a), "tests do not count")
}

func TestBuildOnceForEachSource(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("NOT RUN: compiles the agent, and there is no go command here")
	}
	cache := filepath.Join(t.TempDir(), "new", "cache")
	path, err := Build(source(program), "p", cache, "amd64")
	require.NoError(t, err)
	f, err := elf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	assert.Equal(t, elf.ELFOSABI_FREEBSD, f.OSABI)
	before, err := os.Stat(path)
	require.NoError(t, err)

	again, err := Build(source(program), "p", cache, "amd64")
	require.NoError(t, err)
	after, err := os.Stat(again)
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after), "it was there")

	left, err := os.ReadDir(cache)
	require.NoError(t, err)
	assert.Len(t, left, 1, "nothing but the agent stays")
}

func TestBuildSaysWhatIsWrong(t *testing.T) {
	if _, err := exec.LookPath("go"); err == nil {
		_, err := Build(source("package main\n\nfunc main() { nonsense }\n"), "p", t.TempDir(), "amd64")
		assert.ErrorContains(t, err, "undefined: nonsense")
	}
	t.Setenv("PATH", "")
	_, err := Build(source(program), "p", t.TempDir(), "amd64")
	assert.ErrorContains(t, err, "no go command in PATH")
}

// The agent's build shares the compiler's flags with the user's, and no others.
func TestFlagsOfTheUser(t *testing.T) {
	for user, want := range map[string]string{
		"":                                       "-mod=mod",
		"-gcflags=all=-dwarf=false":              "-mod=mod -gcflags=all=-dwarf=false",
		"-mod=vendor -race -gcflags=-N -v":       "-mod=mod -gcflags=-N",
		"'-gcflags=all=-N -l' -ldflags=-X=a.b=c": "-mod=mod",
	} {
		assert.Equal(t, want, flags(user), "%q", user)
	}
}
