package zbuf_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The protocol with the kernel stands on an acquire at the load of kernel_gen and a release at the
// store to user_gen. This disassembles what the compiler makes of them.
func TestBarriersAreInTheMachineCode(t *testing.T) {
	if testing.Short() {
		t.Skip("cross-compiles: left out with -short")
	}
	gobin, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command here to cross-compile with: ", err)
	}
	run := func(arch string, args ...string) string {
		cmd := exec.Command(gobin, args...)
		cmd.Env = append(os.Environ(),
			"GOOS=freebsd", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	type insn struct{ hex, text string }
	line := regexp.MustCompile(`(?m)^\s+\S+\s+0x[0-9a-f]+\s+([0-9a-f]{4,8})\s+(.*?)\s*$`)
	disassemble := func(arch, file, symbol string) (list []insn) {
		text := run(arch, "tool", "objdump", "-s", symbol, file)
		for _, m := range line.FindAllStringSubmatch(text, -1) {
			list = append(list, insn{m[1], m[2]})
		}
		require.NotEmpty(t, list, "%s: no %s", arch, symbol)
		return list
	}
	has := func(list []insn, op string) (found []insn) {
		for _, i := range list {
			if strings.HasPrefix(i.text, op) {
				found = append(found, i)
			}
		}
		return found
	}
	bits := func(i insn) uint64 {
		v, err := strconv.ParseUint(i.hex, 16, 32)
		require.NoError(t, err)
		return v
	}
	const generation = `zbuf\.\(\*ZbufHeader\)\.Generation$`
	const acknowledge = `zbuf\.\(\*ZbufHeader\)\.Acknowledge$`
	const riscvAq, riscvRl = 1 << 26, 1 << 25

	dir := t.TempDir()
	for _, arch := range []string{"arm64", "riscv64", "arm"} {
		t.Run(arch, func(t *testing.T) {
			pkg := filepath.Join(dir, arch+".a")
			run(arch, "build", "-o", pkg, ".")
			load, store := disassemble(arch, pkg, generation), disassemble(arch, pkg, acknowledge)
			show := func(what string, list []insn) {
				for _, i := range list {
					t.Logf("%s: %-8s %s", what, i.hex, i.text)
				}
			}
			switch arch {
			case "arm64":
				acquire, release := has(load, "LDARW"), has(store, "STLRW")
				show("acquire", acquire)
				show("release", release)
				assert.NotEmpty(t, acquire)
				assert.Len(t, release, 1)
			case "riscv64":
				acquire, release := has(load, "LRW"), has(store, "AMOSWAPW")
				show("acquire", acquire)
				show("release", release)
				require.NotEmpty(t, acquire)
				require.Len(t, release, 1)
				assert.NotZero(t, bits(acquire[0])&riscvAq, "lr.w.aq")
				assert.NotZero(t, bits(release[0])&riscvRl, "amoswap.w.rl")
			case "arm":
				// Calls, which end in functions of the runtime.
				assert.NotEmpty(t, has(load, "BL"))
				assert.NotEmpty(t, has(store, "BL"))
				bin := filepath.Join(dir, "arm.test")
				run(arch, "test", "-c", "-o", bin, ".")
				for _, f := range []string{"Load", "Store"} {
					barriers := has(disassemble(arch, bin, `^internal/runtime/atomic\.`+f+`$`), "DMB")
					show(f, barriers)
					assert.NotEmpty(t, barriers)
				}
			}
		})
	}
}
