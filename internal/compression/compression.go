// Package compression compresses and decompresses files with gzip and zstd.
package compression

import (
	"bytes"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A Kind is a format of compressed data.
type Kind int

const (
	None Kind = iota
	Gzip
	Zstd
)

var kinds = [...]struct{ name, extension string }{
	None: {"none", ""},
	Gzip: {"gzip", ".gz"},
	Zstd: {"zstd", ".zst"},
}

// String returns the name, such as "gzip".
func (k Kind) String() string { return kinds[k].name }

// Extension returns what the names of such files end with, such as ".gz".
func (k Kind) Extension() string { return kinds[k].extension }

// OfName returns the kind that the end of a file's name asks for, and the name without that end.
func OfName(name string) (k Kind, rest string) {
	ext := filepath.Ext(name)
	for k := Gzip; int(k) < len(kinds); k++ {
		if strings.EqualFold(ext, k.Extension()) {
			return k, strings.TrimSuffix(name, ext)
		}
	}
	return None, name
}

// An Encoder appends src to dst as one whole piece of compressed data: a member of gzip, or a frame
// of zstd. Pieces that follow each other are a valid file. One goroutine at a time may call an
// encoder, because it uses its memory again.
type Encoder func(dst, src []byte) []byte

// window is the number of bytes in which zstd looks for what repeats.
const window = 1 << 20

// NewEncoder returns an encoder. It compresses fast rather than well, because packets come
// meanwhile. It returns nil for None.
func NewEncoder(k Kind) Encoder {
	switch k {
	case Gzip:
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is one that the library has
		}
		return func(dst, src []byte) []byte {
			b := bytes.NewBuffer(dst)
			w.Reset(b)
			w.Write(src) // a bytes.Buffer returns no error
			w.Close()
			return b.Bytes()
		}
	case Zstd:
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
		if err != nil {
			panic(err) // the options are ones that the library has
		}
		return func(dst, src []byte) []byte { return w.EncodeAll(src, dst) }
	}
	return nil
}
