package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// bpfOwner returns the mode and the group of /dev/bpf, or the error of stat(2).
func bpfOwner() string {
	fi, err := os.Stat("/dev/bpf")
	if err != nil {
		return err.Error()
	}
	group := "?"
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		group = strconv.FormatUint(uint64(st.Gid), 10)
		if g, err := user.LookupGroupId(group); err == nil {
			group = g.Name
		}
	}
	return fmt.Sprintf("mode %#o, group %s", fi.Mode().Perm(), group)
}
