// Package conformance holds the table of what bpf(4) does, as tests that every kernel
// and every model of one has to pass.
//
// Everywhere, go test runs the table on the model. On FreeBSD, as root, with
// net.bpf.zerocopy_enable=1, it runs on the kernel as well.
package conformance
