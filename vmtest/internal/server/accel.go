//go:build unix

package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
)

// verdict is a remembered failure of hardware acceleration. It holds for one model of processor,
// one kernel of the host and one QEMU. A try takes seconds. The guest's kernel and the next start
// of the machine do not change the answer.
type verdict struct {
	Accel  string
	Reason string
}

func verdictPath(c Config, version string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q", c.Arch, c.CPU, processor(), hostKernel(),
		version))
	return filepath.Join(c.Cache, "accel-"+hex.EncodeToString(sum[:])[:16]+".json")
}

// processor returns the model of the host's processor, as far as the host shows it.
func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	return modelOf(string(b))
}

// modelOf returns the lines that name the model from the entry of the first processor. On amd64
// they have names and numbers, and on arm64 only numbers.
func modelOf(cpuinfo string) string {
	first, _, _ := strings.Cut(cpuinfo, "\n\n")
	var model []string
	for line := range strings.Lines(first) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "vendor_id", "cpu family", "model", "model name", "stepping",
			"CPU implementer", "CPU variant", "CPU part", "CPU revision":
			model = append(model, strings.TrimSpace(value))
		}
	}
	return strings.Join(model, " ")
}

// hostKernel returns the release of the host's kernel, which has the driver.
func hostKernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "" // then all kernels have one name
	}
	return unix.ByteSliceToString(u.Release[:])
}

func recall(c Config, version string) *verdict {
	b, err := os.ReadFile(verdictPath(c, version))
	if err != nil {
		return nil
	}
	var v verdict
	if json.Unmarshal(b, &v) != nil {
		return nil
	}
	return &v
}

func remember(c Config, version, accel string, why error) {
	b, err := json.Marshal(verdict{accel, why.Error()})
	if err != nil {
		return
	}
	// The file only saves time, so a failure to keep it is no error.
	tmp, err := os.CreateTemp(c.Cache, "accel-*")
	if err != nil {
		return
	}
	_, err = tmp.Write(b)
	if cerr := tmp.Close(); err != nil || cerr != nil ||
		os.Rename(tmp.Name(), verdictPath(c, version)) != nil {
		os.Remove(tmp.Name())
	}
}

// hardware returns the accelerator that this host might have for guests of arch, or the reason why
// it has none.
func hardware(arch string) (accel, why string) {
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

// candidates returns the accelerators to try, the best first.
func candidates(c Config, version string) []string {
	hw, _ := hardware(c.Arch)
	if v := recall(c, version); hw == "" || v != nil && v.Accel == hw {
		return []string{qemu.TCG}
	}
	return []string{hw, qemu.TCG}
}

// reason returns the reason for software emulation.
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

// Acceleration describes the acceleration that a guest of arch has on this host.
func Acceleration(cache, arch, version string) string {
	c := Config{Cache: cache, Arch: arch}
	hw, why := hardware(arch)
	v := recall(c, version)
	switch {
	case hw == "":
		return "none (" + why + "): QEMU emulates in software, which is several times slower"
	case v != nil && v.Accel == hw:
		return "none (" + hw + ": " + v.Reason + "; to try again remove " + verdictPath(c, version) +
			"): QEMU emulates in software, which is several times slower"
	default:
		return hw + " will be tried first"
	}
}
