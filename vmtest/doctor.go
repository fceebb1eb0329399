//go:build unix

package vmtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/zbuf-go/zbuf/vmtest/internal/agentbin"
	"github.com/zbuf-go/zbuf/vmtest/internal/payload"
	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
	"github.com/zbuf-go/zbuf/vmtest/internal/server"
)

// Doctor checks everything that a run with c needs: QEMU, kernel, go command, acceleration. It
// prints a line for each, and what to do if it is missing. It reports whether nothing is missing.
func Doctor(c Config, w io.Writer) bool {
	ok := true
	line := func(what string, err error, good string) {
		if err != nil {
			ok = false
			fmt.Fprintf(w, "missing  %-13s %v\n", what, err)
			return
		}
		fmt.Fprintf(w, "ok       %-13s %s\n", what, good)
	}

	if err := c.check("amd64"); err != nil {
		line("configuration", err, "")
		return false
	}
	if cache, err := safeCache(); err != nil {
		line("cache", err, "")
		return false
	} else {
		line("cache", nil, cache)
	}
	name := c.QEMU
	if name == "" {
		name = qemu.Binary(c.Arch)
	}
	binary, version, err := qemu.Find(name)
	line("QEMU", err, binary+" "+version)
	if err == nil {
		line("user network", userNetwork(binary), "built into QEMU")
	}

	err = c.prepareKernel(context.Background())
	if c.Image != "" {
		if err == nil && !fileExists(c.Image) {
			err = fmt.Errorf("there is no file %s", c.Image)
		}
		line("image", err, c.Image)
		if _, err := exec.LookPath("qemu-img"); err != nil {
			fmt.Fprintf(w, "%-8s %-13s %s\n", "note", "qemu-img", "not in PATH: QEMU keeps the image's "+
				"changes in a temporary file (Debian: apt install qemu-utils)")
		}
		c.Modules = nil // the image has modules
	} else {
		if err == nil {
			_, err = payload.OpenKernel(c.Kernel)
		}
		if err == nil {
			err = c.checkKernel("")
		}
		line("kernel", err, c.Kernel)
	}
	for _, m := range c.Modules {
		ko := filepath.Join(filepath.Dir(c.Kernel), m+".ko")
		if fileExists(ko) {
			line("module", nil, ko)
		} else {
			line("module", nil, m+" is not a file beside the kernel: it must be built in")
		}
	}

	goPath, err := exec.LookPath("go")
	if err != nil {
		err = fmt.Errorf("there is no go command in PATH: it compiles the guest's agent once (https://go.dev/dl)")
	}
	line("go", err, goPath)
	if err == nil {
		agent, err := agentbin.Build(agentSource, "vmtest", CacheDir(), c.Arch)
		line("agent", err, agent)
	}

	// A guest without acceleration is slow, but works.
	fmt.Fprintf(w, "%-8s %-13s %s\n", "note", "acceleration", server.Acceleration(CacheDir(), c.Arch,
		version))
	return ok
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func userNetwork(binary string) error {
	out, err := exec.Command(binary, "-netdev", "help").Output()
	if err != nil {
		return fmt.Errorf("%s -netdev help: %w", binary, err)
	}
	for _, l := range strings.Fields(string(out)) {
		if l == "user" {
			return nil
		}
	}
	return fmt.Errorf("%s was built without user networking (slirp): install a QEMU that has it",
		binary)
}

// Console runs the agent's prompt in a guest, on the standard streams of c. It returns the exit
// code of the prompt. Its errors are those of [Run].
func Console(ctx context.Context, c Config) (int, error) {
	if err := c.check("amd64"); err != nil {
		return 0, err
	}
	cache, err := safeCache()
	if err != nil {
		return 0, err
	}
	agent, err := agentbin.Build(agentSource, "vmtest", cache, c.Arch)
	if err != nil {
		return 0, err
	}
	c.Stdin, c.Verbose = true, true
	return Run(ctx, c, agent, []string{"shell"})
}
