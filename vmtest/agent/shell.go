//go:build freebsd

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// shellHelp lists the prompt's commands.
const shellHelp = `ls [FOLDER]            cat FILE               cd FOLDER
sysctl NAME[=VALUE]    ifconfig               mount
kldstat                run PROGRAM ARGS...    exit
`

// shell is the prompt of "vmtest console". It lets a user look around in a guest that has no
// programs. It runs like any other program.
func shell(in io.Reader, out io.Writer) {
	fmt.Fprintf(out, "root prompt of the guest; \"help\" lists the commands\n# ")
	for sc := bufio.NewScanner(in); sc.Scan(); fmt.Fprint(out, "# ") {
		f := strings.Fields(sc.Text())
		if len(f) == 0 {
			continue
		}
		if f[0] == "exit" {
			return
		}
		if err := shellCommand(out, f[0], f[1:]); err != nil {
			fmt.Fprintln(out, err)
		}
	}
}

func shellCommand(out io.Writer, name string, args []string) error {
	switch {
	case name == "help":
		fmt.Fprint(out, shellHelp)
	case name == "ls":
		return list(out, append(args, ".")[0])
	case name == "cat" && len(args) == 1:
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(out, f)
		return err
	case name == "cd" && len(args) == 1:
		return os.Chdir(args[0])
	case name == "sysctl" && len(args) == 1:
		if key, value, ok := strings.Cut(args[0], "="); ok {
			return setSysctl(key, value)
		}
		return showSysctl(out, args[0])
	case name == "ifconfig":
		ifs, err := (&guest{}).interfaces()
		for n, text := range ifs {
			fmt.Fprintf(out, "%s: %s\n", n, text)
		}
		return err
	case name == "mount":
		list, err := mounts()
		fmt.Fprintln(out, strings.Join(list, "\n"))
		return err
	case name == "kldstat":
		text, err := (&guest{}).others()
		fmt.Fprintln(out, text)
		return err
	case name == "run" && len(args) > 0:
		c := exec.Command(args[0], args[1:]...)
		c.Stdout, c.Stderr = out, out
		return c.Run()
	default:
		return fmt.Errorf("%s: no such command, or not so; \"help\" lists them", name)
	}
	return nil
}

func list(out io.Writer, dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		size := ""
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
			size = strconv.FormatInt(fi.Size(), 10)
		}
		fmt.Fprintf(out, "%-11s %10s %s\n", e.Type(), size, e.Name())
	}
	return err
}

func showSysctl(out io.Writer, name string) error {
	mib, err := mibOf(name)
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	kind, err := kindOf(mib)
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	if kind&kindType == kindString {
		s, err := syscall.Sysctl(name)
		fmt.Fprintln(out, s)
		return err
	}
	raw, err := readSysctl(mib)
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	var v uint64
	for i := range min(len(raw), 8) {
		v |= uint64(raw[i]) << (8 * i)
	}
	fmt.Fprintln(out, v)
	return nil
}
