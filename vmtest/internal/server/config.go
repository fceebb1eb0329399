package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Config has everything that makes one guest different from another. Runners with equal
// configurations share a guest.
type Config struct {
	Kernel     string    // path of a kernel file
	Image      string    // path of a raw or qcow2 image to boot instead
	KernelTime time.Time // of the kernel or image
	Arch       string    // of the guest
	Firmware   string    // path; needed for an image of arm64
	CPU        string    // model; empty for the default
	Agent      string    // path, its name holds a hash of its source
	Modules    []string
	Tunables   []string // name=value for the kernel environment
	MemMiB     int
	CPUs       int
	QEMU       string        // path or name; empty for the default
	Accel      string        // empty for the best that works
	ICount     bool          // the guest's clock counts instructions; Accel is tcg
	Stall      time.Duration // stop the guest now and then, for this long at most
	Version    string        // of the runner
	// Idle is the time for which the server waits for another runner.
	Idle time.Duration
	// Private, if it is not empty, makes a server that no other runner shares.
	Private string
	// Cache is the user's cache folder of vmtest.
	Cache string
}

// Key returns a name for the configuration.
func (c Config) Key() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:16]
}

// dir returns the folder in which the servers of this user keep sockets, locks and logs. The paths
// of Unix sockets have at most about 100 bytes, so the folder's path is short.
func dir() string {
	return filepath.Join(os.TempDir(), "vmtest-"+strconv.Itoa(os.Getuid()))
}
