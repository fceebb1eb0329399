// Package fanout measures what bpf/fanout gains for a reader that is behind. Each turn handles two
// full buffers, with some work on each packet. The time that the second buffer takes after the
// first counts. One goroutine without fanout and N workers with it take turns. Each iteration is
// one turn of both. The figures are medians.
package fanout
