package pcapio

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/compression"
)

var kinds = []compression.Kind{compression.Gzip, compression.Zstd}

// A compressed file is read as the same file is that is not compressed, in one piece or several.
func TestCompressedFilesAreReadAlike(t *testing.T) {
	for _, s := range samples {
		want, wantErr := parsed(bytes.NewReader(s.file))
		for _, k := range kinds {
			encode := compression.NewEncoder(k)
			half := len(s.file) / 2
			for _, file := range [][]byte{encode(nil, s.file),
				encode(encode(nil, s.file[:half]), s.file[half:])} {
				got, err := parsed(iotest.HalfReader(bytes.NewReader(file)))
				assert.Equal(t, want.Packets, got.Packets, s.name)
				assert.Equal(t, want.Interfaces, got.Interfaces, s.name)
				assert.Equal(t, wantErr == nil, err == nil, "%s: %v and %v", s.name, wantErr, err)
				if wantErr != nil {
					assert.Equal(t, errors.Is(wantErr, ErrTruncated), errors.Is(err, ErrTruncated), s.name)
					assert.ErrorContains(t, err, "decompressed", s.name)
				}
			}
		}
	}
}

// A compressed file that is cut has the packets before that place, and an error that says so.
func TestCutCompressedFiles(t *testing.T) {
	head, packet := ng(shb, idb), ng(epb)
	for _, k := range kinds {
		encode := compression.NewEncoder(k)
		file := encode(nil, head)
		ends := []int{len(file)}
		for range 3 {
			file = encode(file, packet)
			ends = append(ends, len(file))
		}
		whole := 0
		for n := ends[0]; n <= len(file); n++ {
			r, err := NewReader(bytes.NewReader(file[:n]))
			require.NoError(t, err)
			got, err := readAll(r)
			if n == ends[whole+min(1, 3-whole)] && whole < 3 {
				whole++
			}
			require.GreaterOrEqual(t, len(got), whole, "%v of %d bytes", k, n)
			if n == ends[whole] {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, ErrTruncated)
			require.ErrorIs(t, err, ErrFormat)
			require.ErrorContains(t, err, " of the decompressed data: broken capture file: its "+
				k.String()+" data ends too early")
			_, again := r.Next()
			require.Equal(t, err, again)
		}
		require.Equal(t, 3, whole)

		damaged := append(file[:ends[2]:ends[2]], bytes.Repeat([]byte("x"), 40)...)
		r, err := NewReader(bytes.NewReader(damaged))
		require.NoError(t, err)
		got, err := readAll(r)
		require.Len(t, got, 2)
		require.ErrorIs(t, err, ErrFormat)
		require.NotErrorIs(t, err, ErrTruncated)
		require.ErrorContains(t, err, "its "+k.String()+" data is damaged")
	}
}

// A packet that has come through a pipe in compressed form does not wait for the next one.
func TestCompressedPacketsDoNotWait(t *testing.T) {
	for _, k := range kinds {
		encode := compression.NewEncoder(k)
		in, out := io.Pipe()
		go out.Write(encode(nil, ng(shb, idb)))
		r, err := NewReader(in)
		require.NoError(t, err)
		for range 3 {
			go out.Write(encode(nil, epb))
			_, err := r.Next()
			require.NoError(t, err)
		}
		go out.Close()
		_, err = r.Next()
		require.Equal(t, io.EOF, err)
	}
}

// What is compressed and no capture file is named.
func TestCompressedFilesOfOtherKinds(t *testing.T) {
	for _, k := range kinds {
		encode := compression.NewEncoder(k)
		end := " (decompressed by " + k.String() + ")"
		for contents, want := range map[string]string{
			"":                         "it is empty" + end,
			"abc":                      "it has 3 bytes" + end,
			"no packets at all":        "it is neither pcap nor pcapng" + end,
			string(encode(nil, shb)):   "it is compressed by " + k.String() + ": decompress it first" + end,
			"BZh91AY&SY and some more": "it is compressed by bzip2: decompress it first" + end,
		} {
			_, err := NewReader(bytes.NewReader(encode(nil, []byte(contents))))
			require.EqualError(t, err, "broken capture file: "+want)
		}
		_, err := NewReader(bytes.NewReader(encode(nil, shb)[:4]))
		require.EqualError(t, err, "broken capture file: its "+k.String()+" data ends too early")
		broken := append(encode(nil, shb)[:4], bytes.Repeat([]byte{255}, 40)...)
		_, err = NewReader(bytes.NewReader(broken))
		require.ErrorIs(t, err, ErrFormat)
		require.ErrorContains(t, err, "its "+k.String()+" data is damaged")
	}
}
