package main

import (
	"fmt"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// rightsFlags say which rights a capture keeps, and what runs beside it with other rights.
type rightsFlags struct {
	user      string
	noSandbox bool
	after     string
	command   []string // its words, the first of which is the path of a program
}

func (f *rightsFlags) add(fl *pflag.FlagSet) {
	fl.Var(once(&f.after), "after",
		"run the command `CMD` with each finished file, whose name comes last;\n"+
			"spaces separate its words, and no shell sees them")
	fl.Var(once(&f.user), "user", "become the user `NAME` when everything is open")
	fl.BoolVar(&f.noSandbox, "no-sandbox", false, "keep the right to open files and sockets")
}

// check checks the flags. write is the file of -w.
func (f *rightsFlags) check(write string) error {
	if f.after != "" && (write == "" || write == "-") {
		return usagef("--after is for files: give -w FILE")
	}
	if f.after == "" {
		return nil
	}
	if f.command = strings.Fields(f.after); len(f.command) == 0 {
		return usagef("--after: the command is empty")
	}
	program, err := exec.LookPath(f.command[0])
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return usagef("--after: %w", err)
	}
	f.command[0] = program
	return nil
}

// account returns the account of --user, or nil.
func (f *rightsFlags) account() (*account, error) {
	if f.user == "" {
		return nil, nil
	}
	return lookUp(f.user)
}

// account is a user that a capture becomes.
type account struct {
	name     string
	uid, gid int
	groups   []int
}

// lookUp returns the account of a user.
func lookUp(name string) (*account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, usagef("--user: %w", err)
	}
	a := &account{name: name}
	if a.uid, err = strconv.Atoi(u.Uid); err == nil {
		a.gid, err = strconv.Atoi(u.Gid)
	}
	if err != nil {
		return nil, fmt.Errorf("--user %s: the system's numbers for it: %w", name, err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("--user %s: its groups: %w", name, err)
	}
	for _, g := range groups {
		n, err := strconv.Atoi(g)
		if err != nil {
			return nil, fmt.Errorf("--user %s: the number of a group: %w", name, err)
		}
		a.groups = append(a.groups, n)
	}
	return a, nil
}
