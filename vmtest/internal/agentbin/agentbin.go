// Package agentbin compiles the guest's agent with the user's go command. The runner carries the
// source. Package agentbin compiles each version of the source once.
package agentbin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "module github.com/zbuf-go/zbuf\n\ngo 1.26.0\n"

// Hash returns a hash of the source. Equal sources have equal hashes.
func Hash(source fs.FS) (string, error) {
	h := sha256.New()
	err := walk(source, func(path string, data []byte) error {
		fmt.Fprintf(h, "%s %d\n", path, len(data))
		h.Write(data)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("agent source: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// walk calls f with each file of the agent, in order.
func walk(source fs.FS, f func(path string, data []byte) error) error {
	return fs.WalkDir(source, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := fs.ReadFile(source, path)
		if err != nil {
			return err
		}
		return f(path, data)
	})
}

// Build returns the path of the agent for goarch in the folder cache. It makes the folder if there
// is none. prefix is the folder of the module that has source as its root.
func Build(source fs.FS, prefix, cache, goarch string) (string, error) {
	hash, err := Hash(source)
	if err != nil {
		return "", err
	}
	target := filepath.Join(cache, "agent-"+goarch+"-"+hash)
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", fmt.Errorf("build the agent: %w", err)
	}
	dir, err := os.MkdirTemp(cache, "build-*")
	if err != nil {
		return "", fmt.Errorf("build the agent: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := write(filepath.Join(dir, "go.mod"), []byte(module)); err != nil {
		return "", fmt.Errorf("build the agent: %w", err)
	}
	err = walk(source, func(path string, data []byte) error {
		return write(filepath.Join(dir, prefix, filepath.FromSlash(path)), data)
	})
	if err != nil {
		return "", fmt.Errorf("build the agent: %w", err)
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o",
		filepath.Join(dir, "agent"), "./"+prefix+"/agent")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=freebsd", "GOARCH="+goarch, "GOAMD64=v1", "CGO_ENABLED=0",
		"GOFLAGS="+flags(os.Getenv("GOFLAGS")), "GOWORK=off", "GO111MODULE=on")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("build the agent: there is no go command in PATH; it is needed once, at " +
				"the first use")
		}
		return "", fmt.Errorf("build the agent: %w: %s", err, lastLine(out.String()))
	}
	// Two runners may build at the same time. The last one replaces an equal file.
	if err := os.Rename(filepath.Join(dir, "agent"), target); err != nil {
		return "", fmt.Errorf("build the agent: %w", err)
	}
	return target, nil
}

// flags returns the flags of the user that the agent's build has too. With the same flags of the
// compiler, the standard library is in the user's cache. Others might not fit the agent's module.
func flags(user string) string {
	kept := []string{"-mod=mod"}
	for _, f := range strings.Fields(user) {
		if strings.HasPrefix(f, "-gcflags=") {
			kept = append(kept, f)
		}
	}
	return strings.Join(kept, " ")
}

func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
