// Package fanout measures what bpf/fanout gains for a reader that is behind: two full buffers are handled, with some work on each
// packet, and what the second takes after the first counts; by one goroutine without it and by N workers with it, turn and turn about. Each
// iteration is one turn of both; the figures are medians.
package fanout
