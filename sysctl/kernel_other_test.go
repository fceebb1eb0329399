//go:build !freebsd

package sysctl_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/sysctl"
)

func kernel(t *testing.T) target {
	t.Helper()
	t.Skip("not FreeBSD: run the test through cmd/vmtest to have its kernel")
	return target{}
}

func TestEveryCallIsUnsupportedElsewhere(t *testing.T) {
	h := sysctl.Host()
	walk := func() (err error) {
		for _, err = range h.Walk("") {
		}
		return err
	}
	for name, call := range map[string]func() error{
		"Int32":    func() error { _, err := h.Int32("kern.maxproc"); return err },
		"Uint32":   func() error { _, err := h.Uint32("kern.maxproc"); return err },
		"Int64":    func() error { _, err := h.Int64("kern.maxproc"); return err },
		"Uint64":   func() error { _, err := h.Uint64("kern.maxproc"); return err },
		"String":   func() error { _, err := h.String("kern.ostype"); return err },
		"Raw":      func() error { _, err := h.Raw("kern.ostype"); return err },
		"Slice":    func() error { _, err := sysctl.Slice[int64](h, "kern.cp_time"); return err },
		"Set":      func() error { return h.Set("kern.hostname", "x") },
		"Override": func() error { _, err := h.Override("kern.hostname", "x"); return err },
		"Format":   func() error { _, err := h.Format("kern.ostype"); return err },
		"Describe": func() error { _, err := h.Describe("kern.ostype"); return err },
		"Walk":     walk,
		"Stats":    func() error { _, err := h.BPF().Stats(); return err },
		"Reset":    func() error { return h.BPF().ResetStats() },
		"ZeroCopy": func() error { _, err := h.BPF().ZeroCopyEnabled(); return err },
	} {
		err := call()
		require.ErrorIs(t, err, errors.ErrUnsupported, name)
		var named *sysctl.Error
		require.ErrorAs(t, err, &named, name)
	}
}
