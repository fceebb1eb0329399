// Package vmtest runs a FreeBSD program, usually a Go test binary, as root on a FreeBSD kernel in
// QEMU. The program behaves as if it ran here: its output, its exit status and its files come back,
// and it receives signals. The command vmtest is a thin layer over this package, made for
//
//	GOOS=freebsd go test -exec vmtest ./...
//
// The package needs QEMU and a FreeBSD kernel file for amd64, arm64 or riscv64. It needs no disk
// image and no privileges. docs/vmtest.md says how it works and what it promises.
package vmtest
