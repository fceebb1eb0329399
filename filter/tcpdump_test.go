package filter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/net/bpf"
)

// tcpdump compiles expressions with libpcap, for the comparison.
type tcpdump struct {
	path string
	dir  string
	mu   sync.Mutex // of the files in dir
}

// newTcpdump skips the test, and says why, where tcpdump is missing.
func newTcpdump(t testing.TB) *tcpdump {
	path, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skipf("tcpdump is not installed, so there is no libpcap to compare with: %v", err)
	}
	return &tcpdump{path: path, dir: t.TempDir()}
}

// linkTypes maps FreeBSD's DLT numbers to those of files, where they differ.
var linkTypes = map[uint32]uint32{DLTRaw: 101}

// liveLinks are the link types with an address family in the header. For a file, libpcap takes the
// numbers that any BSD has for INET6; for a capture, this host's.
var liveLinks = map[uint32]string{DLTNull: "NULL", DLTLoop: "LOOP", DLTEnc: "ENC",
	DLTPFLog: "PFLOG"}

// compile returns libpcap's program, or the message with which it refuses the expression.
func (d *tcpdump) compile(dlt uint32, expression string, optimize bool) (prog []bpf.RawInstruction,
	refused string, err error) {
	out, refused, err := d.run(dlt, expression, optimize, "-ddd")
	if refused != "" || err != nil {
		return nil, refused, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines[1:] {
		var i bpf.RawInstruction
		if _, err := fmt.Sscan(line, &i.Op, &i.Jt, &i.Jf, &i.K); err != nil {
			return nil, "", fmt.Errorf("line %q: %w", line, err)
		}
		prog = append(prog, i)
	}
	return prog, "", nil
}

func (d *tcpdump) run(dlt uint32, expression string, optimize bool, how string) (out,
	refused string, err error) {
	file, err := d.file(dlt)
	if err != nil {
		return "", "", err
	}
	args := []string{"-r", file, how}
	if name := liveLinks[dlt]; name != "" {
		args = []string{"-y", name, how}
	}
	if !optimize {
		args = append(args, "-O")
	}
	cmd := exec.Command(d.path, append(args, "--", expression)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		msg := strings.TrimSpace(stderr.String())
		if i := strings.LastIndex(msg, "tcpdump: "); i >= 0 {
			return "", msg[i:], nil
		}
		return "", "", fmt.Errorf("%q: %w: %s", expression, err, msg)
	}
	return stdout.String(), "", nil
}

// file returns the name of a file of the link type, without packets.
func (d *tcpdump) file(dlt uint32) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	file := filepath.Join(d.dir, fmt.Sprintf("%d.pcap", dlt))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	link := dlt
	if n, ok := linkTypes[dlt]; ok {
		link = n
	}
	head := make([]byte, 24)
	binary.LittleEndian.PutUint32(head, 0xa1b2c3d4)
	binary.LittleEndian.PutUint16(head[4:], 2)
	binary.LittleEndian.PutUint16(head[6:], 4)
	binary.LittleEndian.PutUint32(head[16:], 262144)
	binary.LittleEndian.PutUint32(head[20:], link)
	return file, os.WriteFile(file, head, 0o600)
}

// The first questions about a link type may come at the same time.
func TestQuestionsToTcpdumpAtTheSameTime(t *testing.T) {
	for range 8 {
		d := newTcpdump(t)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				_, refused, err := d.compile(DLTEthernet, "ip", true)
				assert.NoError(t, err)
				assert.Empty(t, refused)
			})
		}
		all.Wait()
	}
}
