//go:build !freebsd

package main

import (
	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
)

func capEnter() error { return zbuf.ErrForeignOS }

func tried([]*bpf.Reader) string { return "" }
