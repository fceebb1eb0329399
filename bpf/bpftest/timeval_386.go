package bpftest

import "github.com/zbuf-go/zbuf"

func timeval(sec, usec int64) zbuf.Timeval {
	return zbuf.Timeval{Sec: int32(sec), Usec: int32(usec)}
}
