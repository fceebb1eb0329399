//go:build !freebsd

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "the vmtest agent is the first process of a FreeBSD guest and runs "+
		"nowhere else")
	os.Exit(1)
}
