package house

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The core, and what stands on it alone, reaches no module but x/sys and x/net. So a program that
// captures does not link gopacket.
func TestCoreReachesFewModules(t *testing.T) {
	for _, system := range []string{"linux", "freebsd", "windows"} {
		foreign, seen := reaches(t, system, ".", "./bpf/...", "./filter", "./sysctl/...")
		assert.Empty(t, foreign, system)
		assert.Greater(t, seen, 30, "the packages were not found")
	}

	foreign, _ := reaches(t, "freebsd", "./gopacketbpf")
	assert.Contains(t, foreign, "github.com/gopacket/gopacket", "the check sees what is foreign")
}

// reaches returns the packages that others import, directly or not, and that are of other modules
// than x/sys and x/net. seen counts all.
func reaches(t *testing.T, system string, packages ...string) (foreign []string, seen int) {
	t.Helper()
	for _, p := range list(t, system, append([]string{"-deps"}, packages...)...) {
		seen++
		first, _, _ := strings.Cut(p.ImportPath, "/")
		known := slices.ContainsFunc([]string{module, "golang.org/x/sys", "golang.org/x/net"},
			func(m string) bool { return p.ImportPath == m || strings.HasPrefix(p.ImportPath, m+"/") })
		if strings.Contains(first, ".") && !known { // names of the Go library have no dot there
			foreign = append(foreign, p.ImportPath)
		}
	}
	return foreign, seen
}
