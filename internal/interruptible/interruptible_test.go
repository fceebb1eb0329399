package interruptible

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var errStop = errors.New("stop")

func TestReaderPassesEverythingOn(t *testing.T) {
	text := strings.Repeat("0123456789", 100_000)
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(text), "halves": iotest.HalfReader(strings.NewReader(text)),
		"error with data": iotest.DataErrReader(strings.NewReader(text)),
	} {
		t.Run(name, func(t *testing.T) {
			i := NewReader(t.Context(), r)
			defer i.Close()
			got, err := io.ReadAll(i)
			require.NoError(t, err)
			assert.True(t, text == string(got))
			_, err = i.Read(make([]byte, 1))
			assert.Equal(t, io.EOF, err, "again")
		})
	}
	boom := errors.New("boom")
	i := NewReader(t.Context(), io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(boom)))
	got, err := io.ReadAll(i)
	assert.Equal(t, "abc", string(got))
	assert.Equal(t, boom, err)
}

func TestContextEndsARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		r, w := io.Pipe()
		i := NewReader(ctx, r)
		go func() {
			w.Write([]byte("abc"))
			synctest.Wait() // until it waits for more
			cancel(errStop)
		}()
		got, err := io.ReadAll(i)
		assert.Equal(t, "abc", string(got))
		assert.Equal(t, errStop, err)
		_, err = i.Read(make([]byte, 1))
		assert.Equal(t, errStop, err, "again")
		i.Close()
		w.Close()
		synctest.Wait() // the goroutine has gone, or the bubble fails
	})
}

func TestRegular(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	f, err := Open(t.Context(), name, os.O_RDONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	assert.True(t, Regular(f))
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	assert.False(t, Regular(r))
	assert.False(t, Regular(strings.NewReader("")))
}
