package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	xmodule "golang.org/x/mod/module"
)

// A user is something that is made of packages, and therefore uses the modules that they are in.
type user struct {
	name     string
	dir      string
	packages []string // arguments of go list
	ships    bool     // users get it; the others are named only for modules that nobody gets
}

var users = []user{
	{"the library", ".", []string{".", "./bpf/...", "./filter", "./sysctl/..."}, true},
	{"gopacketbpf", ".", []string{"./gopacketbpf"}, true},
	{"packet", ".", []string{"./packet"}, true},
	{"bpfctl", ".", []string{"./cmd/bpfctl"}, true},
	{"vmtest", ".", []string{"./cmd/vmtest", "./vmtest/agent"}, true},
	{"tests and generators", ".", []string{"-test", "./..."}, false},
	{"make check", ".", []string{"tool"}, false},
	{"bench/", "bench", []string{"-test", "./..."}, false},
	{"clients/", "clients", []string{"-test", "./..."}, false},
}

// usersOf returns the packages that use a module, by its path.
func usersOf() (map[string][]string, error) {
	all := map[string][]string{}
	for _, u := range users {
		found := map[string]bool{}
		for _, system := range []string{"freebsd", "linux", "windows"} {
			out, err := run(u.dir, system, append([]string{"list", "-deps", "-f",
				"{{with .Module}}{{.Path}}{{end}}"}, u.packages...))
			if err != nil {
				return nil, err
			}
			for _, path := range strings.Fields(string(out)) {
				found[path] = true
			}
		}
		for path := range found {
			if u.ships || !shipped(all[path]) {
				all[path] = append(all[path], u.name)
			}
		}
	}
	return all, nil
}

func shipped(names []string) bool {
	return slices.ContainsFunc(users, func(u user) bool {
		return u.ships && slices.Contains(names, u.name)
	})
}

// download returns the folders of modules in the module cache, and gets those that are not there.
func download(modules []xmodule.Version) (map[xmodule.Version]string, error) {
	args := []string{"mod", "download", "-json"}
	for _, m := range modules {
		args = append(args, m.String())
	}
	out, err := run(".", "", args)
	if err != nil {
		return nil, err
	}
	dirs := map[xmodule.Version]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var m struct{ Path, Version, Dir string }
		if err := d.Decode(&m); err == io.EOF {
			return dirs, nil
		} else if err != nil {
			return nil, err
		}
		dirs[xmodule.Version{Path: m.Path, Version: m.Version}] = m.Dir
	}
}

func run(dir, system string, args []string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS="+system)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s in %s: %w", strings.Join(args, " "), dir, err)
	}
	return out, nil
}
