package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const client = "github.com/insomniacslk/dhcp/dhcpv4/nclient4"

// Without the constant the client does not compile, and for no other reason.
func TestOnlyTheConstantIsMissing(t *testing.T) {
	_, err := run("..", "go", "build", client)
	require.Error(t, err, "the client compiles: this folder is not needed any more")
	var complaints []string
	for line := range strings.Lines(err.Error()) {
		if strings.Contains(line, ".go:") {
			complaints = append(complaints, line)
		}
	}
	require.Len(t, complaints, 1)
	assert.Contains(t, complaints[0], "undefined: unix.ETH_P_IP")
}

// Everything that the client is built of is the same as without prepare, except one file more.
func TestNothingElseDiffers(t *testing.T) {
	out := t.TempDir()
	require.NoError(t, prepare("..", out))
	flags := []string{"-modfile", filepath.Join(out, "go.mod"),
		"-overlay", filepath.Join(out, "overlay.json")}

	_, err := run("..", "go", append(append([]string{"build"}, flags...), client)...)
	require.NoError(t, err)

	was, is := sources(t), sources(t, flags...)
	require.Greater(t, len(was), 500)
	require.Contains(t, was, client+" conn_unix.go")
	more := "golang.org/x/sys/unix " + added
	assert.Equal(t, fmt.Sprintf("%x", sha256.Sum256([]byte(content))), is[more])
	delete(is, more)
	assert.Equal(t, was, is)
}

// sources returns the sum of each file that the client is built of, by its package and name.
func sources(t *testing.T, flags ...string) map[string]string {
	t.Helper()
	printed, err := run("..", "go", append(append([]string{"list", "-deps",
		"-json=ImportPath,Dir,GoFiles,SFiles,HFiles"}, flags...), client)...)
	require.NoError(t, err)
	sums := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(printed)); ; {
		var p struct {
			ImportPath, Dir         string
			GoFiles, SFiles, HFiles []string
		}
		if err := d.Decode(&p); err == io.EOF {
			return sums
		} else {
			require.NoError(t, err)
		}
		for _, name := range append(append(p.GoFiles, p.SFiles...), p.HFiles...) {
			data, err := os.ReadFile(filepath.Join(p.Dir, name))
			if os.IsNotExist(err) && name == added { // in the overlay alone
				data, err = []byte(content), nil
			}
			require.NoError(t, err)
			sums[p.ImportPath+" "+name] = fmt.Sprintf("%x", sha256.Sum256(data))
		}
	}
}
