//go:build unix

package vmtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/zbuf-go/zbuf/vmtest/internal/agentbin"
	"github.com/zbuf-go/zbuf/vmtest/internal/payload"
	"github.com/zbuf-go/zbuf/vmtest/internal/printable"
)

// Kernels prints a line for each kernel in [CacheDir], with the facts that its file has. If probe
// is set, Kernels also boots each kernel and prints a line with the kernel's answer. It reports
// whether all files are kernels and, with probe, whether all of them booted. It returns an error if
// it can't read the folder.
func Kernels(ctx context.Context, c Config, probe bool, w io.Writer) (bool, error) {
	cache, err := safeCache()
	if err != nil {
		return false, err
	}
	paths, err := filepath.Glob(filepath.Join(cache, "kernel-*"))
	if err != nil {
		return false, err
	}
	if len(paths) == 0 {
		fmt.Fprintf(w, "no kernels in %s: put one there as kernel-amd64, kernel-arm64 or "+
			"kernel-riscv64, or such a name with -NAME behind it\n", cache)
		return true, nil
	}
	ok := true
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "file\tarch\trelease\tINVARIANTS\tVIMAGE\tCOMPAT_FREEBSD32\tepair")
	for _, path := range paths {
		info, err := payload.ReadInfo(path)
		if err != nil {
			ok = false
			fmt.Fprintf(t, "%s\t%v\n", filepath.Base(path), err)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", filepath.Base(path), info.Arch,
			printable.Text(info.Release), info.Invariants, info.VIMAGE, info.Compat32, builtIn(info.Epair))
		if !strings.HasPrefix(filepath.Base(path), "kernel-"+info.Arch) {
			ok = false
			fmt.Fprintf(t, "\tits name should begin with kernel-%s\n", info.Arch)
		}
		if !probe {
			continue
		}
		said, err := askKernel(ctx, c, path, info.Arch)
		if err != nil {
			ok = false
			said = err.Error()
		}
		fmt.Fprintf(t, "\tsays: %s\n", said)
	}
	return ok, t.Flush()
}

func builtIn(epair string) string {
	if epair == payload.Yes {
		return "built in"
	}
	return epair
}

// askKernel boots the kernel at path and returns the kernel's answer.
func askKernel(ctx context.Context, c Config, path, arch string) (string, error) {
	c.Image, c.Release, c.QEMU, c.CPU, c.Modules = "", "", "", "", nil
	c.Kernel, c.Arch, c.NoReuse = path, arch, true
	agent, err := agentbin.Build(agentSource, "vmtest", CacheDir(), arch)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	c.Stdout = &out
	code, err := Run(ctx, c, agent, []string{"features"})
	if err != nil {
		return "", err
	}
	if code != 0 {
		return "", fmt.Errorf("the agent ended with code %d", code)
	}
	return printable.Text(strings.TrimSpace(out.String())), nil
}
