package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// assignment is one line of sysctl.conf(5), read as sysctl(8) reads it.
type assignment struct {
	name, value string
	comment     string // from the # on, with the space in front of it
}

// parseAssignment reports whether the line sets something.
func parseAssignment(line string) (a assignment, ok bool) {
	line = strings.TrimRight(line, "\r\n")
	quote := byte(0)
	end := len(line)
	for i := range len(line) {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == '#':
			end = i
		}
		if end == i {
			break
		}
	}
	body := strings.TrimRight(line[:end], " \t")
	a.comment = line[len(body):]
	i := strings.IndexAny(body, "=:")
	if i < 0 {
		return a, false
	}
	a.name = strings.TrimSpace(body[:i])
	a.value = strings.TrimSpace(body[i+1:])
	if n := len(a.value); n > 1 && (a.value[0] == '"' || a.value[0] == '\'') &&
		a.value[n-1] == a.value[0] {
		a.value = a.value[1 : n-1]
	}
	return a, a.name != ""
}

// confValue returns the value to which sysctl.conf(5) finally sets a sysctl.
func confValue(conf []byte, name string) (value string, ok bool) {
	for line := range strings.Lines(string(conf)) {
		if a, is := parseAssignment(line); is && a.name == name {
			value, ok = a.value, true
		}
	}
	return value, ok
}

// setConf returns the file with exactly one line that sets the sysctl. It stands where the first
// such line was, or at the end. Of other lines that set the sysctl, only the comments stay.
// Everything else stays as it is.
func setConf(conf []byte, name, value string) []byte {
	var out bytes.Buffer
	done := false
	for line := range strings.Lines(string(conf)) {
		a, is := parseAssignment(line)
		if !is || a.name != name {
			out.WriteString(line)
			continue
		}
		ending := line[len(strings.TrimRight(line, "\r\n")):]
		switch {
		case done && strings.TrimSpace(a.comment) != "":
			out.WriteString(strings.TrimLeft(a.comment, " \t") + ending)
		case done:
		case a.value == value:
			out.WriteString(line)
		default:
			out.WriteString(name + "=" + value + a.comment + ending)
		}
		done = true
	}
	if !done {
		if n := out.Len(); n > 0 && out.Bytes()[n-1] != '\n' {
			out.WriteByte('\n')
		}
		out.WriteString(name + "=" + value + "\n")
	}
	return out.Bytes()
}

// persist makes a file in the format of sysctl.conf(5) set a sysctl. It reports whether it had to
// change the file. At any moment there is either the old file or the new one, whole.
func persist(file, name, value string) (changed bool, err error) {
	target, err := filepath.EvalSymlinks(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(file); lerr == nil {
			return false, fmt.Errorf("%s is a symbolic link to nowhere", file)
		}
		target, err = file, nil
	}
	if err != nil {
		return false, err
	}
	settled := func() (old os.FileInfo, now []byte, done bool, err error) {
		old, err = os.Stat(target)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, setConf(nil, name, value), false, nil
		}
		if err != nil {
			return nil, nil, false, err
		}
		if !old.Mode().IsRegular() {
			return nil, nil, false, fmt.Errorf("%s is not a file", file)
		}
		was, err := os.ReadFile(target)
		now = setConf(was, name, value)
		return old, now, bytes.Equal(was, now), err
	}
	if _, _, done, err := settled(); done || err != nil {
		return false, err
	}
	// Other processes that do the same wait for the lock, and then find nothing to do.
	next, err := openNext(filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+".bpfctl"))
	if err != nil {
		return false, err
	}
	defer next.Close()
	old, now, done, err := settled()
	if err == nil && !done {
		err = replace(next, target, old, now)
		changed = err == nil
	}
	if !changed {
		err = errors.Join(err, os.Remove(next.Name()))
	}
	return changed, err
}

// replace writes contents to the file next, and then renames it to target.
func replace(next *os.File, target string, old os.FileInfo, contents []byte) error {
	if err := next.Truncate(0); err != nil { // an interrupted run's
		return err
	}
	if _, err := next.WriteAt(contents, 0); err != nil {
		return err
	}
	if err := dressLike(next, old); err != nil {
		return err
	}
	if err := next.Sync(); err != nil {
		return err
	}
	if err := os.Rename(next.Name(), target); err != nil {
		return err
	}
	return syncDir(filepath.Dir(target))
}
