//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRenew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	renewed := func(text string) (string, error) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		err := renew(file)
		got, rerr := os.ReadFile(file)
		require.NoError(t, rerr)
		return string(got), err
	}
	const empty = "a\n<!-- shot until x.z: echo xyz -->\n<!-- end of shot -->\nb\n" +
		"<!-- shot until 1: echo 1 -->\nold\n<!-- end of shot -->\n"
	const full = "a\n<!-- shot until x.z: echo xyz -->\n```console\n$ echo xyz\nxyz\n```\n" +
		"<!-- end of shot -->\nb\n" +
		"<!-- shot until 1: echo 1 -->\n```console\n$ echo 1\n1\n```\n<!-- end of shot -->\n"
	got, err := renewed(empty)
	require.NoError(t, err)
	assert.Equal(t, full, got)
	got, err = renewed(full)
	require.NoError(t, err)
	assert.Equal(t, full, got)

	for name, text := range map[string]string{
		"no mark":                      "a\nb\n",
		"a picture that does not come": "<!-- shot until y: echo x -->\nold\n<!-- end of shot -->\n",
		"no such program": "<!-- shot until y: /no/such/program -->\nold\n" +
			"<!-- end of shot -->\n",
		"no regular expression": "<!-- shot until (: echo x -->\nold\n<!-- end of shot -->\n",
	} {
		got, err := renewed(text)
		assert.Error(t, err, name)
		assert.Equal(t, text, got, name)
	}
}
