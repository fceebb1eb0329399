//go:build unix

package qemu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be the watcher, and a machine that [clock] describes.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "__watch" {
		os.Exit(Watch(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "-nodefaults" {
		clock()
	}
	os.Exit(m.Run())
}

// fakeQEMU is a script in the place of QEMU.
func fakeQEMU(t *testing.T, body string) string {
	t.Helper()
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("NOT RUN: a script takes QEMU's place, and there is no shell here")
	}
	path := filepath.Join(t.TempDir(), "qemu")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755))
	return path
}

func start(t *testing.T, body string) *Machine {
	t.Helper()
	m, err := Start(Spec{Binary: fakeQEMU(t, body), Accel: TCG}, NewConsole(),
		[]string{os.Args[0], "__watch"})
	require.NoError(t, err)
	t.Cleanup(m.Kill)
	return m
}

func TestMachineTellsConsoleErrorsAndEnd(t *testing.T) {
	m := start(t, "echo booting; echo no such machine >&2; exit 3")
	select {
	case <-m.Exited():
	case <-time.After(10 * time.Second):
		t.Fatal("does not end")
	}
	assert.Equal(t, "booting", m.Console.Tail(5))
	assert.Equal(t, "no such machine", m.Errors())
}

func TestKillEndsQEMU(t *testing.T) {
	m := start(t, "echo up; exec sleep 3600")
	require.Eventually(t, func() bool { return m.Console.Total() > 0 }, 10*time.Second,
		5*time.Millisecond)
	m.Kill()
	select {
	case <-m.Exited():
	default:
		t.Fatal("Kill returned before the end")
	}
	m.Kill() // once more is harmless
}

func TestWatcherEndsWithItsInput(t *testing.T) {
	qemu := fakeQEMU(t, "exec sleep 3600")
	cmd := exec.Command(os.Args[0], "__watch", qemu)
	life, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	require.NoError(t, life.Close())
	select {
	case err := <-ended:
		assert.Error(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("the watcher outlives its parent")
	}
}

// A guest's clock goes on while the guest stands still. The machine here tells how late it was.
func TestStalledMachineStandsStillAndGoesOn(t *testing.T) {
	m, err := Start(Spec{Binary: os.Args[0], Accel: TCG, Stall: 400 * time.Millisecond}, NewConsole(),
		[]string{os.Args[0], "__watch"})
	require.NoError(t, err)
	t.Cleanup(m.Kill)
	require.Eventually(t, func() bool { return strings.Count(m.Console.Tail(3), stoodStill) == 3 },
		20*time.Second, 5*time.Millisecond)
}

// stoodStill is what [clock] prints.
const stoodStill = "stood still"

// clock prints a line each time that a sleep of 1 ms takes 100 ms or longer.
func clock() {
	for {
		from := time.Now()
		time.Sleep(time.Millisecond) // what is measured
		if time.Since(from) >= 100*time.Millisecond {
			fmt.Println(stoodStill)
		}
	}
}

func TestFind(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"good", "echo QEMU emulator version 7.2.22 '(Debian)'", ""},
		{"old", "echo QEMU emulator version 4.1.0", "version 4.1, older than 5.2"},
		{"silent", "true", "does not tell its version"},
		{"broken", "exit 1", "exit status 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, version, err := Find(fakeQEMU(t, tt.body))
			if tt.want == "" {
				require.NoError(t, err)
				assert.Equal(t, "7.2", version)
				return
			}
			require.ErrorIs(t, err, ErrMissing)
			assert.ErrorContains(t, err, tt.want)
		})
	}
	_, _, err := Find("no-such-qemu")
	require.ErrorIs(t, err, ErrMissing)
	assert.ErrorContains(t, err, "apt install")
}

func TestArgsEscapeTheDisk(t *testing.T) {
	args := strings.Join(Spec{Accel: TCG, Disk: "/tmp/a,b"}.Args(), " ")
	assert.Contains(t, args, "file=/tmp/a,,b")
	assert.Contains(t, args, "tcg,thread=multi")
}

func TestArgsOfAClockThatCounts(t *testing.T) {
	args := strings.Join(Spec{Accel: TCG, ICount: true, Disk: "/d"}.Args(), " ")
	assert.Contains(t, args, "-icount shift=2,sleep=off,align=off")
	assert.Contains(t, args, "-accel tcg,thread=single ", "processors take turns on the one clock")
	assert.NotContains(t, strings.Join(Spec{Accel: TCG, Disk: "/d"}.Args(), " "), "icount")
}

func TestOlder(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{{"5.1", "5.2", true}, {"5.2", "5.2", false}, {"10.0", "5.2", false}, {"4.9", "10.0", true},
		{"7.2", "5.2", false}} {
		assert.Equal(t, tt.want, older(tt.a, tt.b), "%s %s", tt.a, tt.b)
	}
}

func TestArgsOfAnImage(t *testing.T) {
	for _, tt := range []struct {
		name       string
		spec       Spec
		want, none []string
	}{
		{"amd64 overlay", Spec{Accel: TCG, Disk: "/d", Image: &Image{File: "/o.qcow2", Format: "qcow2",
			Tar: "/t"}},
			[]string{"-machine pc", "id=image,format=qcow2,file=/o.qcow2",
				"id=tar,format=raw,readonly=on,file=/t"}, []string{"snapshot", "-bios", "-kernel"}},
		{"snapshot", Spec{Accel: TCG, Disk: "/d", Image: &Image{File: "/i.raw", Format: "raw",
			Snapshot: true, Tar: "/t"}},
			[]string{"format=raw,snapshot=on,file=/i.raw"}, nil},
		{"arm64", Spec{Accel: TCG, Disk: "/d", Arch: "arm64", Image: &Image{File: "/i", Format: "raw",
			Tar: "/t", Firmware: "/fw"}},
			[]string{"-machine virt ", "-bios /fw", "-cpu cortex-a72"}, []string{"qemu64"}},
		{"arm64 with KVM", Spec{Accel: KVM, Disk: "/d", Arch: "arm64",
			Image: &Image{File: "/i", Format: "raw", Tar: "/t", Firmware: "/fw"}},
			[]string{"-machine virt,gic-version=max", "-cpu host"}, nil},
		{"arm64 kernel", Spec{Accel: TCG, Disk: "/d", Arch: "arm64", Payload: "/p",
			Append: "FreeBSD: a=b c=d", Root: "/r"},
			[]string{"-machine virt ", "-kernel /p", "-append FreeBSD: a=b c=d",
				"id=root,format=raw,readonly=on,file=/r", "-cpu cortex-a72"}, []string{"-bios"}},
		{"riscv64 kernel", Spec{Accel: TCG, Disk: "/d", Arch: "riscv64", Payload: "/p", Append: "a=b",
			Root: "/r"},
			[]string{"-machine virt ", "-kernel /p", "-append a=b", "id=root,format=raw,readonly=on,file=/r",
				"-cpu rv64"}, []string{"-bios"}},
		{"the network leads to one socket", Spec{Accel: TCG, Disk: "/d", Payload: "/p", Call: "/a,b"},
			[]string{"-chardev socket,id=agent,path=/a,,b",
				"user,id=host,restrict=on,ipv6=off,guestfwd=tcp:10.0.2.4:1-chardev:agent"}, nil},
		{"kernel", Spec{Accel: TCG, Disk: "/d", Payload: "/p", CPU: "max"}, []string{"-kernel /p", "-cpu max"}, []string{"id=image"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Join(tt.spec.Args(), " ")
			for _, w := range tt.want {
				assert.Contains(t, args, w)
			}
			for _, n := range tt.none {
				assert.NotContains(t, args, n)
			}
			image, tar := strings.Index(args, "drive=image"), strings.Index(args, "drive=tar")
			root, shared := strings.Index(args, "drive=root"), strings.Index(args, "drive=shared")
			assert.True(t, image <= tar && tar < shared && root < shared, "the order of the disks")
		})
	}
}

func TestTypeReachesQEMU(t *testing.T) {
	m := start(t, "read line; echo got $line; exec sleep 3600")
	require.NoError(t, m.Type("root\n"))
	require.Eventually(t, func() bool { return m.Console.Tail(1) == "got root" }, 10*time.Second,
		5*time.Millisecond)
}
