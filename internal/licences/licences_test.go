package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xmodule "golang.org/x/mod/module"
)

func TestPageHasEveryModule(t *testing.T) {
	const root = "../.."
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Skipf("the modules are where the source is, not here: %v", err)
	}
	modules, err := required(root)
	require.NoError(t, err)
	require.Contains(t, modules, xmodule.Version{Path: "gonum.org/v1/plot", Version: "v0.17.0"},
		"of bench/go.mod")
	require.Contains(t, modules, xmodule.Version{Path: "github.com/mdlayher/arp",
		Version: "v0.0.0-20220512170110-6706a2966875"}, "of clients/go.mod")
	page, err := os.ReadFile(filepath.Join(root, "docs", "licences.md"))
	require.NoError(t, err)
	assert.Empty(t, missing(string(page), modules), "run make licences")

	added := xmodule.Version{Path: modules[0].Path, Version: "v99.0.0"}
	assert.Equal(t, []string{added.String()}, missing(string(page), append(modules, added)))
}

func TestLicenceOf(t *testing.T) {
	if testing.Short() {
		t.Skip("the scanner takes seconds to compile its patterns: not with -short")
	}
	ours, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Skipf("the licence is where the source is, not here: %v", err)
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"ours":               {map[string]string{"LICENSE": string(ours), "LICENSE.go": "package x"}, "BSD-2-Clause"},
		"British, and twice": {map[string]string{"LICENCE.md": string(ours), "COPYING": string(ours)}, "BSD-2-Clause"},
		"none":               {map[string]string{"README": string(ours)}, ""},
		"not a licence":      {map[string]string{"LICENSE": "Do what the lawyers say."}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range c.files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
			}
			got, err := licenceOf(dir)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.want == "", err != nil)
		})
	}
}
