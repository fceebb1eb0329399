//go:build freebsd

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "shell" {
		shell(os.Stdin, os.Stdout)
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "features" {
		fmt.Println(features())
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "call" {
		if err := call(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		return
	}
	if isInit() {
		// pid 1 starts without descriptors.
		if fd, err := syscall.Open("/dev/console", syscall.O_RDWR, 0); err == nil {
			for i := 0; i < 3; i++ {
				if i != fd {
					syscall.Dup2(fd, i)
				}
			}
		}
	}
	err := run()
	fmt.Fprintln(os.Stderr, "agent:", err)
	// The host no longer reads, so the agent powers the machine off. If the host is still there, it
	// sees the last line, and ends QEMU long before the power-off is complete.
	const noSync, powerOff = 0x4, 0x4000 // RB_NOSYNC, RB_POWEROFF
	syscall.Syscall(syscall.SYS_REBOOT, noSync|powerOff, 0, 0)
	select {}
}

// isInit reports whether this is the agent of a kernel boot. In a whole system the agent starts at
// the prompt, and has another pid than 1.
func isInit() bool { return os.Getpid() == 1 }

// readSettings reads the settings that the host has stored beside the agent.
func readSettings() (s wire.Settings, err error) {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(os.Args[0]), wire.SettingsFile))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		err = fmt.Errorf("settings: %w", err)
	}
	return s, err
}

// run serves the host, and returns when the host is gone.
func run() error {
	set, err := readSettings()
	if err != nil {
		return err
	}
	if !isInit() {
		if err := becomeReaper(); err != nil {
			return err
		}
		if err := os.MkdirAll(rootDir, 0o755); err != nil {
			return err
		}
	}
	missing := loadModules(set)
	if err := interfaceUp("lo0"); err != nil {
		return err
	}
	loopback := &net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(8, 32)}
	if err := addAddress("lo0", loopback); err != nil {
		return err
	}
	nc, err := connect(set.Addr)
	if err != nil {
		return err
	}
	version, _ := syscall.Sysctl("kern.version")
	version, _, _ = strings.Cut(version, "\n")
	conn := wire.NewConn(bufio.NewReaderSize(nc, 256<<10), nc)
	a := &agent{conn: conn, in: make(inbox, 4)}
	// If the kernel has no driver for the disk, the agent uses the network alone.
	disk, diskErr := os.OpenFile(set.Disk, os.O_RDWR, 0)
	if err := conn.WriteJSON(wire.Hello, wire.Greeting{
		Version: wire.Version, Token: set.Token, Kernel: version, Missing: missing, Disk: diskErr == nil,
	}); err != nil {
		return fmt.Errorf("greet the host: %w", err)
	}
	if diskErr == nil {
		conn.ShareDisk(disk, false)
	}
	go a.in.fill(conn)
	go func() {
		for range time.Tick(wire.AlivePeriod) {
			if conn.Write(wire.Alive, nil) != nil {
				return
			}
		}
	}()
	if a.base, err = takeBaseline(); err != nil {
		return err
	}
	for {
		t, body, err := a.in.Read()
		if err != nil {
			return fmt.Errorf("the host is gone: %w", err)
		}
		if t != wire.Run {
			continue // a late signal or input for a program that has ended
		}
		if err := a.serve(body); err != nil {
			return err
		}
	}
}

// loadModules loads kernel modules. It returns a sentence for each required module that is neither
// loaded nor built in.
func loadModules(set wire.Settings) (missing []string) {
	loaded, failed := map[string]bool{}, map[string]error{}
	for _, name := range set.Load {
		_, err := pathCall(syscall.SYS_KLDLOAD, "/boot/kernel/"+name+".ko", 0)
		loaded[name] = err == nil || errors.Is(err, syscall.EEXIST)
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			failed[name] = err
		}
	}
	for _, name := range set.Required {
		if loaded[name] {
			continue
		}
		if _, err := pathCall(syscall.SYS_MODFIND, name, 0); err == nil {
			continue
		}
		if err := failed[name]; err != nil {
			missing = append(missing,
				fmt.Sprintf("the kernel does not load the module %s.ko: %v", name, err))
			continue
		}
		missing = append(missing, fmt.Sprintf(
			"kernel module %s is neither built into the kernel nor a file beside it (%s.ko)",
			name, name))
	}
	return missing
}
