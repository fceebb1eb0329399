//go:build unix

package vmtest

import (
	"fmt"
	"os"

	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
	"github.com/zbuf-go/zbuf/vmtest/internal/server"
)

// Arguments that make a program a helper process.
const (
	helperServe = "__serve"
	helperWatch = "__watch"
)

// Helper runs the guest's server or QEMU's watcher if this process was started for one of them.
// Then it does not return. In any other process it does nothing. Call it first of all in the main
// function of the program that [Config.Self] names.
func Helper() {
	if len(os.Args) < 3 {
		return
	}
	switch os.Args[1] {
	case helperServe:
		exe, err := os.Executable()
		if err == nil {
			err = server.Serve(os.Args[2], []string{exe, helperWatch})
		}
		fmt.Fprintln(os.Stderr, "vmtest:", err)
		os.Exit(1)
	case helperWatch:
		os.Exit(qemu.Watch(os.Args[2:]))
	}
}
