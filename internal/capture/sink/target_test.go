package sink

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/compression"
)

// If standard output is a file, the target writes behind its contents. Other programs then write
// behind the target's output.
func TestStandardOutputCanBeAFile(t *testing.T) {
	for _, appends := range []int{0, os.O_APPEND} {
		name := filepath.Join(t.TempDir(), "out")
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|appends, 0o600)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteString("before ")
		require.NoError(t, err)
		o := newOutput(targetOf(f, false), "standard output", compression.None)
		assert.Equal(t, appends == 0, o.to.keeps())
		_, err = io.WriteString(o.buf, "packets ")
		require.NoError(t, err)
		require.NoError(t, o.buf.Flush())
		require.NoError(t, o.to.close())
		_, err = f.WriteString("after")
		require.NoError(t, err)
		got, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Equal(t, "before packets after", string(got))
	}
}
