// Package conformance has the table of rules that say what bpf(4) does. Each rule is a test. Every
// kernel, and the model of one, must pass it.
//
// On every system, go test runs the table on the model. On FreeBSD it also runs the table on the
// kernel. That needs root and net.bpf.zerocopy_enable=1.
package conformance
