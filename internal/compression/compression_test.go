package compression

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pieces are what the tests compress: two pieces, with something that repeats.
var pieces = [][]byte{
	bytes.Repeat([]byte("some packets "), 100), bytes.Repeat([]byte("and some more "), 5),
}

// packed returns compressed data, and where its pieces end.
func packed(k Kind) (file []byte, ends []int) {
	encode := NewEncoder(k)
	for _, p := range pieces {
		file = encode(file, p)
		ends = append(ends, len(file))
	}
	return file, ends
}

// What encoders write, other programs read.
func TestEncodersWriteWhatOthersRead(t *testing.T) {
	all := bytes.Join(pieces, nil)
	file, _ := packed(Gzip)
	g, err := stdgzip.NewReader(bytes.NewReader(file))
	require.NoError(t, err)
	got, err := io.ReadAll(g)
	require.NoError(t, err)
	assert.Equal(t, all, got)

	file, _ = packed(Zstd)
	z, err := zstd.NewReader(nil)
	require.NoError(t, err)
	defer z.Close()
	got, err = z.DecodeAll(file, nil)
	require.NoError(t, err)
	assert.Equal(t, all, got)
}

// A file that is cut gives what is whole, and an error. It ends well only where a piece ends.
func TestCutFilesGiveWhatIsWhole(t *testing.T) {
	all := bytes.Join(pieces, nil)
	for _, k := range []Kind{Gzip, Zstd} {
		file, ends := packed(k)
		for n := 1; n <= len(file); n++ {
			r := NewReader(k, iotest.OneByteReader(bytes.NewReader(file[:n])))
			got, err := io.ReadAll(r)
			require.True(t, bytes.HasPrefix(all, got))
			if n >= ends[0] {
				require.GreaterOrEqual(t, len(got), len(pieces[0]), "%v of %d bytes", k, n)
			}
			if n == ends[0] || n == ends[1] {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, ErrTruncated, "%v of %d bytes", k, n)
			require.EqualError(t, err, "its "+k.String()+" data ends too early")
			_, again := r.Read(make([]byte, 1))
			require.Equal(t, err, again)
		}
	}
}

// A damaged file gives no byte that is wrong without an error.
func TestDamagedFilesAreErrors(t *testing.T) {
	all := bytes.Join(pieces, nil)
	for _, k := range []Kind{Gzip, Zstd} {
		file, ends := packed(k)
		for i := range file {
			damaged := bytes.Clone(file)
			damaged[i] ^= 0x10
			got, err := io.ReadAll(NewReader(k, bytes.NewReader(damaged)))
			if err == nil { // such as the time in the head of gzip
				require.Equal(t, all, got, "%v: byte %d", k, i)
			} else {
				require.True(t, errors.Is(err, ErrDamaged) || errors.Is(err, ErrTruncated), "%v", err)
			}
		}
		_, err := io.ReadAll(NewReader(k, bytes.NewReader(append(file, "some rubbish behind it"...))))
		require.ErrorIs(t, err, ErrDamaged)
		got, err := io.ReadAll(NewReader(k, bytes.NewReader(append(file[:ends[0]:ends[0]], "xx"...))))
		require.Error(t, err)
		require.Equal(t, pieces[0], got)
	}
}

// Bytes that have come do not wait for more.
func TestNothingWaitsForTheNextPiece(t *testing.T) {
	for _, k := range []Kind{Gzip, Zstd} {
		encode := NewEncoder(k)
		in, out := io.Pipe()
		r := NewReader(k, in)
		for _, p := range pieces {
			go out.Write(encode(nil, p))
			got := make([]byte, len(p))
			_, err := io.ReadFull(r, got)
			require.NoError(t, err)
			require.Equal(t, p, got)
		}
		go out.Close()
		_, err := r.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	}
}

// An error of the source is the reader's, and not one of the data.
func TestErrorsOfTheSourceStay(t *testing.T) {
	boom := errors.New("boom")
	for _, k := range []Kind{Gzip, Zstd} {
		file, _ := packed(k)
		for n := range file {
			_, err := io.ReadAll(NewReader(k,
				io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(boom))))
			require.ErrorIs(t, err, boom)
			require.NotErrorIs(t, err, ErrTruncated)
			require.NotErrorIs(t, err, ErrDamaged)
		}
	}
}

func TestContentsTellTheKind(t *testing.T) {
	for _, k := range []Kind{Gzip, Zstd} {
		file, _ := packed(k)
		assert.Equal(t, k, OfContents(file[:4]))
	}
	assert.Equal(t, Zstd, OfContents([]byte("\x50\x2a\x4d\x18")), "a frame to be skipped")
	assert.Equal(t, None, OfContents([]byte("\xd4\xc3\xb2\xa1")))
	assert.Equal(t, None, OfContents(nil))
}

// FuzzReader reads any bytes. What the library of Go reads as gzip, the reader reads too, and the
// same way.
func FuzzReader(f *testing.F) {
	for _, k := range []Kind{Gzip, Zstd} {
		file, ends := packed(k)
		f.Add(file)
		f.Add(file[:ends[0]])
		f.Add(file[:ends[0]+5])
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		const most = 1 << 20
		for _, k := range []Kind{Gzip, Zstd} {
			got, err := io.ReadAll(io.LimitReader(NewReader(k, bytes.NewReader(file)), most))
			if err != nil {
				require.True(t, errors.Is(err, ErrDamaged) || errors.Is(err, ErrTruncated), "%v", err)
			}
			if k != Gzip {
				continue
			}
			std, stdErr := stdgzip.NewReader(bytes.NewReader(file))
			if stdErr != nil {
				continue
			}
			want, stdErr := io.ReadAll(io.LimitReader(std, most))
			require.Equal(t, stdErr == nil, err == nil, "%v and %v", stdErr, err)
			if err == nil {
				require.True(t, bytes.Equal(want, got))
			} else { // one of the two may have stopped earlier
				n := min(len(want), len(got))
				require.True(t, bytes.Equal(want[:n], got[:n]))
			}
		}
	})
}
