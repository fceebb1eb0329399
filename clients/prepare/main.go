// Command prepare writes what a build needs besides the sources for golang.org/x/sys/unix to have
// the constant ETH_P_IP on FreeBSD: a go.mod, a go.sum, and an overlay. It runs in the folder of
// the module. Its argument is the folder that it fills.
//
//	go run ./prepare ../out/clients
//	go test -modfile ../out/clients/go.mod -overlay ../out/clients/overlay.json .
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: prepare folder")
		os.Exit(2)
	}
	if err := prepare(".", os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

const (
	sys     = "golang.org/x/sys"
	zbuf    = "github.com/zbuf-go/zbuf"
	added   = "ethertype_freebsd.go"
	content = "package unix\n\nconst ETH_P_IP = 0x800\n"
)

// prepare fills the folder out for the module in dir. The go command refuses an overlay of files in
// the module cache. So x/sys is replaced by a symbolic link to its folder there, and the overlay
// adds a file to the folder that the link names.
func prepare(dir, out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	cached, err := run(dir, "go", "list", "-m", "-f", "{{.Dir}}", sys)
	if err != nil {
		return err
	}
	ours, err := run(dir, "go", "list", "-m", "-f", "{{.Dir}}", zbuf)
	if err != nil {
		return err
	}
	link, constant := filepath.Join(out, "sys"), filepath.Join(out, added)
	if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Symlink(strings.TrimSpace(cached), link); err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(link, "unix", added): constant}})
	if err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	modfile := filepath.Join(out, "go.mod")
	for name, data := range map[string][]byte{constant: []byte(content), modfile: mod,
		filepath.Join(out, "go.sum"): sums, filepath.Join(out, "overlay.json"): overlay} {
		if err := os.WriteFile(name, data, 0o666); err != nil {
			return err
		}
	}
	_, err = run(dir, "go", "mod", "edit", "-replace", zbuf+"="+strings.TrimSpace(ours),
		"-replace", sys+"="+link, modfile)
	return err
}

// run returns what a command prints.
func run(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=freebsd", "GOARCH=amd64")
	var message bytes.Buffer
	cmd.Stderr = &message
	printed, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, &message)
	}
	return string(printed), err
}
