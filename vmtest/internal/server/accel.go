//go:build unix

package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
)

// verdictLife is how long a failed accelerator is not tried again.
const verdictLife = 24 * time.Hour

// verdict is a remembered failure of hardware acceleration with one kernel and
// one QEMU. Trying costs a second or more, and the answer does not change.
type verdict struct {
	Accel  string
	Reason string
	Time   time.Time
}

func verdictPath(c Config, version string) string {
	sum := sha256.Sum256([]byte(c.Kernel + c.Image + c.CPU + c.KernelTime.String() + version))
	return filepath.Join(c.Cache, "accel-"+hex.EncodeToString(sum[:])[:16]+".json")
}

func recall(c Config, version string) *verdict {
	b, err := os.ReadFile(verdictPath(c, version))
	if err != nil {
		return nil
	}
	var v verdict
	if json.Unmarshal(b, &v) != nil || time.Since(v.Time) > verdictLife {
		return nil
	}
	return &v
}

func remember(c Config, version, accel string, why error) {
	b, err := json.Marshal(verdict{accel, why.Error(), time.Now()})
	if err != nil {
		return
	}
	// It only saves time: not being able to keep it is no failure.
	tmp, err := os.CreateTemp(c.Cache, "accel-*")
	if err != nil {
		return
	}
	_, err = tmp.Write(b)
	if cerr := tmp.Close(); err != nil || cerr != nil || os.Rename(tmp.Name(), verdictPath(c, version)) != nil {
		os.Remove(tmp.Name())
	}
}

// hardware returns the accelerator that this host might have, or why it has none, for guests of
// arch, which is empty for amd64.
func hardware(arch string) (accel, why string) {
	if arch == "" {
		arch = "amd64"
	}
	if runtime.GOARCH != arch {
		return "", "the host is not an " + arch + " machine"
	}
	switch runtime.GOOS {
	case "linux":
		f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if err != nil {
			return "", err.Error()
		}
		f.Close()
		return qemu.KVM, ""
	case "darwin":
		return qemu.HVF, ""
	}
	return "", "none is known for " + runtime.GOOS
}

// candidates lists the accelerators to try, best first.
func candidates(c Config, version string) []string {
	hw, _ := hardware(c.Arch)
	if v := recall(c, version); hw == "" || v != nil && v.Accel == hw {
		return []string{qemu.TCG}
	}
	return []string{hw, qemu.TCG}
}

// reason tells why software emulation is in use.
func reason(c Config, version string) string {
	hw, why := hardware(c.Arch)
	if hw == "" {
		return why
	}
	if v := recall(c, version); v != nil {
		return v.Accel + ": " + v.Reason
	}
	return hw + " failed"
}

// Acceleration says in words what a guest on this host will run with.
func Acceleration(cache, kernel, version string) string {
	c := Config{Cache: cache, Kernel: kernel}
	if fi, err := os.Stat(kernel); err == nil {
		c.KernelTime = fi.ModTime()
	}
	hw, why := hardware(c.Arch)
	v := recall(c, version)
	switch {
	case hw == "":
		return "none (" + why + "): QEMU emulates in software, which is several times slower"
	case v != nil && v.Accel == hw:
		return "none (" + hw + ": " + v.Reason + "): QEMU emulates in software, which is several times slower"
	default:
		return hw + " will be tried first"
	}
}
