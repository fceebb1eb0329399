// Command release builds the archives of a release of bpfctl for FreeBSD. It runs in the root of
// the repository:
//
//	release [-version V] FOLDER ARCH...
//
// For each processor it writes bpfctl-V-freebsd-ARCH.tar.gz and the program's bill of materials,
// bpfctl-V-freebsd-ARCH.cdx.json (CycloneDX). Then it writes SHA256SUMS. The same commit and the
// same Go make the same bytes.
package main

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	version := flag.String("version", "", "the version; by default what git says")
	flag.Parse()
	if flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: release [-version V] FOLDER ARCH...")
		os.Exit(2)
	}
	if err := release(*version, flag.Arg(0), flag.Args()[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func release(version, folder string, arches []string) error {
	if version == "" {
		var err error
		if version, err = run(nil, "git", "describe", "--tags", "--always", "--dirty"); err != nil {
			return err
		}
	}
	seconds, err := run(nil, "git", "log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("the time of the commit: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	man := filepath.Join(tmp, "man")
	if _, err := run(nil, "go", "run", "./cmd/bpfctl", "man", man); err != nil {
		return err
	}
	var names []string
	for _, arch := range arches {
		made, err := forArch(version, arch, folder, tmp, man, time.Unix(n, 0))
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		names = append(names, made...)
	}
	return writeSums(folder, names)
}

// forArch writes the archive for a processor and its bill of materials, and returns their names.
func forArch(
	version, arch, folder, tmp, man string, at time.Time,
) (names []string, err error) {
	program := filepath.Join(tmp, arch, "bpfctl")
	_, err = run([]string{"GOOS=freebsd", "GOARCH=" + arch, "CGO_ENABLED=0", "GOFLAGS="},
		"go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w -buildid=", "-o", program,
		"./cmd/bpfctl")
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "vcs.revision"
	}) {
		return nil, errors.New("go finds no commit, and bpfctl --version would name none: " +
			"run this in a clone, because go does not look into a worktree of git(1)")
	}
	licences, err := licenceTexts(info)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	of, err := licencesOf("docs/licences.md")
	if err != nil {
		return nil, err
	}
	materials, err := sbom(info, content, version, of, at)
	if err != nil {
		return nil, err
	}
	base := "bpfctl-" + version + "-freebsd-" + arch
	a := archive{at: at, root: base}
	a.add("bpfctl", content, 0o755)
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		a.addFile(name, name, 0o644)
	}
	a.addFolder("man/man8", man, 0o644)
	a.addFolder("rc.d", "packaging/rc.d", 0o755)
	a.addFolder("prometheus", "docs/prometheus", 0o644)
	a.add("LICENCES-OF-MODULES.txt", licences, 0o644)
	a.add("MODULES.txt", []byte(info.String()), 0o644)
	a.add("bpfctl.cdx.json", materials, 0o644)
	packed, err := a.pack()
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{base + ".tar.gz": packed,
		base + ".cdx.json": materials} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	fmt.Printf("%s: %d bytes, %d modules\n", base+".tar.gz", len(packed), len(info.Deps))
	return names, nil
}

// run runs a command and returns what it prints, without space around it.
func run(env []string, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, &said)
	}
	return strings.TrimSpace(string(out)), nil
}
