// Package fanout measures what bpf/fanout gains: the packets of two full buffers, with some work on each,
// handled by one goroutine without it and by N workers with it, turn and turn about. Each iteration is one turn of both; the
// figures are medians.
package fanout
