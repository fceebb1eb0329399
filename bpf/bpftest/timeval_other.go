//go:build !386

package bpftest

import "github.com/zbuf-go/zbuf"

func timeval(sec, usec int64) (tv zbuf.Timeval) {
	tv.Sec = sec
	setUsec(&tv.Usec, usec)
	return tv
}

func setUsec[T int32 | int64](p *T, v int64) { *p = T(v) }
