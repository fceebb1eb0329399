// Command licences prints docs/licences.md: a table of every module that a go.mod of this
// repository requires, with its licence and with what uses it. It runs in the root of the
// repository.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
	"golang.org/x/mod/modfile"
	xmodule "golang.org/x/mod/module"
)

const self = "github.com/zbuf-go/zbuf"

func main() {
	page, err := makePage()
	if err == nil {
		_, err = os.Stdout.WriteString(page)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

const head = "# Licences\n\n`make licences` makes this page. " +
	`It has every module that go.mod, bench/go.mod or clients/go.mod
requires. The licence is what the files in the root of the module say. A test fails if this page
lacks a module. What bpfctl and vmtest link is what a copy of these programs contains.

| module | version | licence | used by |
|---|---|---|---|
`

func makePage() (string, error) {
	modules, err := required(".")
	if err != nil {
		return "", err
	}
	dirs, err := download(modules)
	if err != nil {
		return "", err
	}
	uses, err := usersOf()
	if err != nil {
		return "", err
	}
	page := head
	for _, m := range modules {
		licence, known := byHand[m.Path]
		if !known {
			if licence, err = licenceOf(dirs[m]); err != nil {
				return "", fmt.Errorf("%s: %w", m, err)
			}
		}
		by := strings.Join(uses[m.Path], ", ")
		if by == "" {
			by = "nothing that is built here"
		}
		page += fmt.Sprintf("| %s | %s | %s | %s |\n", m.Path, m.Version, licence, by)
	}
	return page, nil
}

// required returns the modules that the files go.mod below root require, but for this module.
func required(root string) (all []xmodule.Version, err error) {
	for _, dir := range []string{".", "bench", "clients"} {
		name := filepath.Join(root, dir, "go.mod")
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f, err := modfile.Parse(name, text, nil)
		if err != nil {
			return nil, err
		}
		for _, r := range f.Require {
			if r.Mod.Path != self {
				all = append(all, r.Mod)
			}
		}
	}
	xmodule.Sort(all)
	return slices.Compact(all), nil
}

// missing returns the modules that a page has no row for.
func missing(page string, modules []xmodule.Version) (all []string) {
	for _, m := range modules {
		if !strings.Contains(page, fmt.Sprintf("\n| %s | %s | ", m.Path, m.Version)) {
			all = append(all, m.String())
		}
	}
	return all
}

// byHand are the licences of modules whose file only names them.
var byHand = map[string]string{
	"github.com/golang/freetype": "FTL or GPL-2.0-or-later",
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([.-].*)?$`)

// licenceOf returns the SPDX names of the licences in a folder.
func licenceOf(dir string) (string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, f := range files {
		if f.IsDir() || !licenceFile.MatchString(f.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return "", err
		}
		for _, m := range licensecheck.Scan(text).Match {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		return "", fmt.Errorf("no licence is known in %s: read what is there, or do without the module",
			dir)
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " and "), nil
}
