package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

// asProgram makes the test binary be bpfctl.
const asProgram = "BPFCTL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if len(os.Args) == 4 && os.Args[1] == slowCopy {
			os.Exit(copySlowly(os.Args[2], os.Args[3]))
		}
		main()
	}
	if filepath.Base(os.Args[0]) != "bpfctl" {
		// The programs that a test starts inherit that nohup ignores the signal. They must not: some
		// tests end them with it. Where a handler stands, a child begins with the default.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	testscript.Main(m, map[string]func(){"bpfctl": main})
}

// slowCopy makes the test binary, as bpfctl, be a command for --after that needs no shell. Its
// words are an ending and a file. It says which process has started it, and copies the file after a
// while. If slowGate names a file, it first waits until that is there, or its folder is not.
const slowCopy, slowGate = "slow-copy", "BPFCTL_TEST_GATE"

func copySlowly(ending, name string) (code int) {
	fmt.Fprintln(os.Stderr, "parent", os.Getppid())
	for gate := os.Getenv(slowGate); gate != ""; time.Sleep(10 * time.Millisecond) {
		_, closed := os.Stat(gate)
		_, gone := os.Stat(filepath.Dir(gate))
		if closed == nil || gone != nil {
			break
		}
	}
	time.Sleep(200 * time.Millisecond)
	content, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name+ending, content, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// newProgram returns bpfctl as a command to start.
func newProgram(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), asProgram+"=1")
	return c
}

// TestScripts runs testdata/script: sessions at a prompt, on the model.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			dir, err := filepath.Abs("testdata")
			e.Setenv("SAMPLE", filepath.Join(dir, "sample.pcapng"))
			e.Setenv("TESTDATA", dir)
			return err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exitcode": exitCode,
			"gencap":   genCap,
			"cut":      cutFile,
			"packets":  countPackets,
		},
	})
}

// exitCode runs a command and checks its exit code: exitcode 2 bpfctl nonsense.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE COMMAND ARGS...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
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

// genCap makes a capture file: gencap pcapng-us 100 FILE.
func genCap(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: gencap FORMAT COUNT FILE")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	for _, f := range formats() {
		if f.String() == args[0] {
			file, err := os.Create(ts.MkAbs(args[2]))
			ts.Check(err)
			defer file.Close()
			ts.Check(capgen.Write(file, f, capgen.Packets(n, f, f.Pcapng, 1)))
			return
		}
	}
	ts.Fatalf("no format %s", args[0])
}

// cutFile takes bytes off the end of a file: cut FILE 3.
func cutFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cut FILE BYTES")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	fi, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), fi.Size()-n))
}

// countPackets checks how many packets a pcapng file has: packets FILE 100.
func countPackets(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: packets FILE COUNT")
	}
	got, err := packetsIn(ts.MkAbs(args[0]))
	ts.Check(err)
	if fmt.Sprint(got) != args[1] {
		ts.Fatalf("%s has %d packets, want %s", args[0], got, args[1])
	}
}
