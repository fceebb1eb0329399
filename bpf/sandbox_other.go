//go:build !freebsd

package bpf

import "github.com/zbuf-go/zbuf"

func capEnter() error { return &zbuf.Error{Op: "cap_enter", Err: zbuf.ErrForeignOS} }
