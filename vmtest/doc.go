// Package vmtest runs FreeBSD programs, Go test binaries above all, as root on
// a FreeBSD kernel in QEMU, as if they ran here: output, exit status, signals
// and files pass through. The command vmtest is a thin cover of it, made for
//
//	GOOS=freebsd go test -exec vmtest ./...
//
// It needs a FreeBSD/amd64 kernel file and QEMU, no disk image and no
// privileges. How it works and what it promises is told in docs/vmtest.md.
package vmtest
