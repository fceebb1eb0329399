//go:build unix

package server

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// prepareImage makes what an image boot needs besides the image: an overlay, and the disk with the
// agent. Nothing writes to the image.
func (s *server) prepareImage(token string) (*qemu.Image, error) {
	format, err := imageFormat(s.cfg.Image)
	if err != nil {
		return nil, err
	}
	tarFile, err := s.writeTar(token)
	if err != nil {
		return nil, err
	}
	im := &qemu.Image{File: s.cfg.Image, Format: format, Snapshot: true, Firmware: s.cfg.Firmware,
		Tar: tarFile}
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		return im, nil // QEMU keeps the writes in a temporary file
	}
	overlay, err := os.CreateTemp(dir(), "overlay-*")
	if err != nil {
		os.Remove(tarFile)
		return nil, fmt.Errorf("overlay of the image: %w", err)
	}
	overlay.Close()
	out, err := exec.Command(tool, "create", "-q", "-f", "qcow2", "-b", s.cfg.Image, "-F", format,
		overlay.Name()).CombinedOutput()
	if err != nil {
		os.Remove(tarFile)
		os.Remove(overlay.Name())
		return nil, fmt.Errorf("overlay of the image: qemu-img: %w: %s", err, bytes.TrimSpace(out))
	}
	im.File, im.Format, im.Snapshot = overlay.Name(), "qcow2", false
	return im, nil
}

// imageFormat returns the format of an image, qcow2 or raw, by its first bytes.
func imageFormat(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil {
		return "", fmt.Errorf("image %s: it is no disk image: %w", path, err)
	}
	if string(magic[:]) == "QFI\xfb" {
		return "qcow2", nil
	}
	return "raw", nil
}

// These are the agent's place in a whole system, and the disk that it comes from.
const (
	tarDevice    = "/dev/vtbd1"
	sharedDevice = "/dev/vtbd2"
	systemFolder = "/root"
	tarFolder    = "vmtest"
)

// writeTar makes the disk with the agent and its settings.
func (s *server) writeTar(token string) (string, error) {
	agent, err := os.ReadFile(s.cfg.Agent)
	if err != nil {
		return "", fmt.Errorf("agent: %w", err)
	}
	load := append([]string{"tmpfs"}, s.cfg.Modules...)
	settings, err := json.Marshal(wire.Settings{Token: token, Addr: qemu.AgentAddr, Disk: sharedDevice,
		Load: load, Required: load})
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		mode int64
		data []byte
	}{{"agent", 0o755, agent}, {wire.SettingsFile, 0o600, settings}} {
		if err := w.WriteHeader(&tar.Header{Name: tarFolder + "/" + f.name, Mode: f.mode,
			Size: int64(len(f.data)), Format: tar.FormatUSTAR}); err != nil {
			return "", fmt.Errorf("disk with the agent: %w", err)
		}
		if _, err := w.Write(f.data); err != nil {
			return "", fmt.Errorf("disk with the agent: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return "", fmt.Errorf("disk with the agent: %w", err)
	}
	// tar(1) reads blocks of 20 sectors, and the disk should have whole blocks.
	const block = 20 * 512
	b.Write(make([]byte, (block-b.Len()%block)%block))
	f, err := os.CreateTemp(dir(), "tar-*")
	if err != nil {
		return "", fmt.Errorf("disk with the agent: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("disk with the agent: %w", err)
	}
	return f.Name(), nil
}

// A FreeBSD system prints these lines on its serial port on the way to a root shell.
var (
	loginPrompt    = regexp.MustCompile(`login: `)
	passwordPrompt = regexp.MustCompile(`(?i)password:\s*$`)
	loginFailed    = regexp.MustCompile(`(?i)login incorrect`)
	shellPrompt    = regexp.MustCompile(`[#%$] $`)
	commandFailed  = regexp.MustCompile(
		`(?m)^((?:tar|bsdtar|sh|-sh|csh): .*|.*: Command not found\.)\r?$`)
)

// startAgent is the line that the server types at the prompt of root.
const startAgent = "tar -xf " + tarDevice + " -C " + systemFolder + " && " + systemFolder + "/" +
	tarFolder + "/agent"

// login takes a whole system from its login prompt to the running agent. It returns an error if the
// system will not get there.
func (g *guest) login() <-chan error {
	failed := make(chan error, 1)
	go func() {
		if err := g.typeLogin(); err != nil {
			failed <- err
		}
	}()
	return failed
}

func (g *guest) typeLogin() error {
	if _, ok := g.expect(0, loginPrompt); !ok {
		return nil
	}
	mark, err := g.typeLine("root")
	if err != nil {
		return err
	}
	re, ok := g.expect(mark, passwordPrompt, shellPrompt, loginFailed)
	if ok && re == passwordPrompt {
		if mark, err = g.typeLine(""); err != nil {
			return err
		}
		re, ok = g.expect(mark, shellPrompt, loginFailed)
	}
	if !ok {
		return nil
	}
	if re != shellPrompt {
		return errors.New("root cannot log in with an empty password: is it an official BASIC-CI image?")
	}
	if mark, err = g.typeLine(startAgent); err != nil {
		return err
	}
	if _, ok := g.expect(mark, commandFailed); ok {
		return fmt.Errorf("the guest did not start the agent: %s",
			strings.TrimSpace(commandFailed.FindString(g.m.Console.Since(mark))))
	}
	return nil
}

// look is the interval at which the server looks at the console.
const look = 20 * time.Millisecond

// expect waits until the console shows one of the patterns behind mark. It reports false when the
// guest has ended or serves the host.
func (g *guest) expect(mark int64, patterns ...*regexp.Regexp) (*regexp.Regexp, bool) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		text := g.m.Console.Since(mark)
		for _, re := range patterns {
			if re.MatchString(text) {
				return re, true
			}
		}
		select {
		case <-g.met:
			return nil, false
		case <-g.m.Exited():
			return nil, false
		case <-g.m.Console.Died():
			return nil, false
		case <-tick.C:
		}
	}
}

// echoWait is the longest wait for the echo of a byte.
const echoWait = 2 * time.Second

// typeLine types as slowly as the guest echoes, because serial ports lose bytes that come fast. It
// returns the mark behind the echo.
func (g *guest) typeLine(line string) (mark int64, err error) {
	for _, c := range []byte(line + "\r") {
		mark = g.m.Console.Total()
		if err := g.m.Type(string(rune(c))); err != nil {
			return mark, fmt.Errorf("type at the guest's console: %w", err)
		}
		for until := time.Now().Add(echoWait); g.m.Console.Total() == mark && time.Now().Before(until); {
			select {
			case <-g.m.Exited():
				return mark, nil
			case <-time.After(look / 4):
			}
		}
	}
	return mark, nil
}
