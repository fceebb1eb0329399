//go:build unix

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/zbuf-go/zbuf/vmtest"
)

// skipText is printed by every test that needs a guest where none can be had.
const skipText = "NOT RUN: the FreeBSD guest tests need %s; put a FreeBSD/amd64 kernel at %s or " +
	"name one by VMTEST_KERNEL, and install qemu-system-x86_64"

// defaultKernel is the kernel for amd64 that a run without flags takes.
func defaultKernel() string { return vmtest.KernelPath(os.Getenv("VMTEST_KERNEL"), "amd64") }

// needGuest skips t with a reason where no guest can be booted.
func needGuest(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT RUN: guest tests take minutes and -short is set")
	}
	if _, err := os.Stat(defaultKernel()); err != nil {
		t.Skipf(skipText, "a kernel file", defaultKernel())
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skipf(skipText, "QEMU", defaultKernel())
	}
}

// needGo skips t where there is no go command, as in a guest.
func needGo(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("NOT RUN: compiles programs, and there is no go command here")
	}
}

// buildRunner compiles the command as its users have it, and a stand-in for QEMU.
func buildRunner(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, pkg := range map[string]string{"vmtest": ".",
		"qemu-standin": "../../vmtest/internal/standin"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return dir
}

// TestScripts runs testdata/script: each file is a session at the prompt of a
// user who tests a module of his own in the guest.
func TestScripts(t *testing.T) {
	needGuest(t)
	testscript.Run(t, params(t, "testdata/script"))
}

// TestHostScripts runs the sessions that end before a guest boots, and so need
// none.
func TestHostScripts(t *testing.T) {
	needGo(t)
	testscript.Run(t, params(t, "testdata/host"))
}

func params(t *testing.T, dir string) testscript.Params {
	bin := buildRunner(t)
	kernel := defaultKernel()
	goEnv := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		require.NoError(t, err)
		return string(out[:len(out)-1])
	}
	cache, modcache := goEnv("GOCACHE"), goEnv("GOMODCACHE")
	userCache, err := os.UserCacheDir()
	require.NoError(t, err)
	return testscript.Params{
		Dir: dir,
		// Scripts share the guest, which serves one at a time.
		Setup: func(e *testscript.Env) error {
			mirror := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(e.WorkDir, "mirror"))))
			e.Defer(mirror.Close)
			e.Setenv("VMTEST_MIRROR", mirror.URL)
			e.Setenv("VMTEST_IMAGE", "")
			e.Setenv("BIN", bin)
			e.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("VMTEST_KERNEL", kernel)
			e.Setenv("XDG_CACHE_HOME", userCache)
			e.Setenv("GOCACHE", cache)
			e.Setenv("GOMODCACHE", modcache)
			e.Setenv("GOPROXY", "off")
			e.Setenv("GOFLAGS", strings.TrimSpace(os.Getenv("GOFLAGS")+" -buildvcs=false"))
			e.Setenv("CGO_ENABLED", "0")
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "debugger": // GENERIC of a release has none
				b, err := os.ReadFile(kernel)
				return bytes.Contains(b, []byte("db_command_loop")), err
			case "kvm":
				f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
				if err == nil {
					f.Close()
				}
				return err == nil && runtime.GOARCH == "amd64", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exitcode":    exitCode,
			"fakekernel":  fakeKernel,
			"fakeprogram": fakeProgram,
			"fakeset":     fakeSet,
		},
	}
}

// exitCode runs a command and checks its exit code: exitcode 7 vmtest ./prog.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE COMMAND ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		ee, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = ee.ExitCode()
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// fakeKernel writes a file that passes for a FreeBSD/amd64 kernel on the host:
// fakekernel FILE.
func fakeKernel(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fakekernel FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), elfBytes(scriptT{ts}, elf.EM_X86_64), 0o644))
}

// fakeProgram makes a file that looks like a program for FreeBSD, and which nothing runs:
// fakeprogram arm64 FILE.
func fakeProgram(ts *testscript.TestScript, neg bool, args []string) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64,
		"riscv64": elf.EM_RISCV}
	if neg || len(args) != 2 || machines[args[0]] == 0 {
		ts.Fatalf("usage: fakeprogram amd64|arm64|riscv64 FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), elfBytes(scriptT{ts}, machines[args[0]]), 0o755))
}

// fakeSet makes a folder that looks like that of a release, with a kernel.txz of
// such a kernel and one module: fakeset FOLDER.
func fakeSet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fakeset FOLDER")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	var set bytes.Buffer
	x, err := xz.NewWriter(&set)
	ts.Check(err)
	w := tar.NewWriter(x)
	for _, name := range []string{"kernel", "tmpfs.ko"} {
		data := elfBytes(scriptT{ts}, elf.EM_X86_64)
		ts.Check(w.WriteHeader(&tar.Header{Name: "./boot/kernel/" + name, Typeflag: tar.TypeReg,
			Mode: 0o555, Size: int64(len(data))}))
		_, err := w.Write(data)
		ts.Check(err)
	}
	ts.Check(w.Close())
	ts.Check(x.Close())
	ts.Check(os.WriteFile(filepath.Join(dir, "kernel.txz"), set.Bytes(), 0o644))
	line := fmt.Sprintf("kernel.txz\t%x\t2\tkernel\t\"Kernel\"\ton\n", sha256.Sum256(set.Bytes()))
	ts.Check(os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte(line), 0o644))
}

// elfBytes are an ELF file whose one segment is a handful of zeros.
func elfBytes(t require.TestingT, machine elf.Machine) []byte {
	const base, headers, text = 0xffffffff80200000, 64 + 56, 64
	var b bytes.Buffer
	require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident:   [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT), byte(elf.ELFOSABI_FREEBSD)},
		Type:    uint16(elf.ET_EXEC),
		Machine: uint16(machine),
		Version: uint32(elf.EV_CURRENT), Entry: base, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
		Shentsize: 64,
	}))
	require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: 7, Off: headers, Vaddr: base, Paddr: base, Filesz: text,
		Memsz: text, Align: 8,
	}))
	b.Write(make([]byte, text))
	return b.Bytes()
}

// scriptT lets a script's commands use require.
type scriptT struct{ *testscript.TestScript }

func (t scriptT) Errorf(format string, args ...any) { t.Fatalf(format, args...) }
func (t scriptT) FailNow()                          { t.Fatalf("failed") }
