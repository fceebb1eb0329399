//go:build unix

package vmtest

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/zbuf-go/zbuf/vmtest/internal/kernelset"
)

// prepareKernel makes c.Kernel the path of a kernel file: it fetches the release
// or extracts the set that c asks for, unless an earlier run has done so.
func (c *Config) prepareKernel(ctx context.Context) error {
	if c.Release != "" {
		s := kernelset.Source{
			Mirror: c.Mirror, Cache: CacheDir(), Progress: terminal(c.Stderr),
			Note: func(format string, a ...any) { fmt.Fprintf(c.Stderr, "vmtest: "+format+"\n", a...) },
		}
		kernel, err := s.Release(ctx, c.Release)
		if err != nil {
			return err
		}
		c.Kernel = kernel
		return nil
	}
	if !kernelset.IsSet(c.Kernel) {
		return nil
	}
	kernel, err := kernelset.Open(c.Kernel, CacheDir())
	if err != nil {
		return fmt.Errorf("kernel set: %w", err)
	}
	c.Kernel = kernel
	return nil
}

// terminal returns w if a progress bar has a place there.
func terminal(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}
