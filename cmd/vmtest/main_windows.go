// Vmtest runs FreeBSD programs in QEMU on Linux, macOS and FreeBSD.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "vmtest: Windows is not supported as a host: use it in WSL")
	os.Exit(125)
}
