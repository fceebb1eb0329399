package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// archive is a tar archive of which nothing depends on the machine: not the order, the owners or
// the times.
type archive struct {
	root  string
	at    time.Time // of all files
	files []file
	err   error // the first
}

type file struct {
	name    string
	mode    int64
	content []byte
}

func (a *archive) add(name string, content []byte, mode int64) {
	a.files = append(a.files, file{path.Join(a.root, name), mode, content})
}

func (a *archive) addFile(name, from string, mode int64) {
	content, err := os.ReadFile(from)
	a.err = cmp.Or(a.err, err)
	a.add(name, content, mode)
}

// addFolder adds the files of a folder, which has no folders in it.
func (a *archive) addFolder(name, from string, mode int64) {
	entries, err := os.ReadDir(from)
	a.err = cmp.Or(a.err, err)
	for _, e := range entries {
		a.addFile(path.Join(name, e.Name()), filepath.Join(from, e.Name()), mode)
	}
}

func (a *archive) pack() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	slices.SortFunc(a.files, func(x, y file) int { return strings.Compare(x.name, y.name) })
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	for _, f := range a.files {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode,
			Size: int64(len(f.content)), ModTime: a.at, Uname: "root", Gname: "wheel",
			Format: tar.FormatUSTAR})
		if err != nil {
			return nil, err
		}
		if _, err := t.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	err = z.Close()
	return b.Bytes(), err
}

// writeSums writes SHA256SUMS, in the form that sha256sum -c and shasum -c read.
func writeSums(folder string, names []string) error {
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), name)
	}
	return os.WriteFile(filepath.Join(folder, "SHA256SUMS"), []byte(b.String()), 0o644)
}

// licenceFile matches the files in the root of a module that a copy of it must come with.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)([.-].*)?$`)

// licenceTexts returns the licences of the modules that a program is made of, and Go's.
func licenceTexts(info *buildinfo.BuildInfo) ([]byte, error) {
	goroot, err := run(nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := addLicences(&b, "Go "+info.GoVersion, goroot); err != nil {
		return nil, err
	}
	for _, m := range info.Deps {
		dir, err := run(nil, "go", "list", "-m", "-f", "{{.Dir}}", m.Path)
		if err != nil {
			return nil, err
		}
		if err := addLicences(&b, m.Path+" "+m.Version, dir); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func addLicences(b *bytes.Buffer, of, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "==== %s: %s\n\n%s\n\n", of, e.Name(), bytes.TrimSpace(text))
		found = true
	}
	if !found {
		return fmt.Errorf("%s has no file with its licence in %s", of, dir)
	}
	return nil
}
