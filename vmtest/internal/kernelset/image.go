//go:build unix

package kernelset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// IsPacked reports whether an image is compressed, by its name.
func IsPacked(path string) bool { return filepath.Ext(path) == ".xz" }

// Unpack unpacks the image in the .xz file at path into the folder cache, and returns its path. If
// the file's folder has a CHECKSUM.SHA256, that must have the file's checksum. Unpack takes
// minutes, so it calls note first.
func Unpack(path, cache string, note func(format string, a ...any)) (string, error) {
	target, err := cached(cache, "image", path)
	if err == nil {
		err = makeOnce(target, target+".lock", func() error {
			note("unpacking %s", path)
			if err := verifyBy("CHECKSUM.SHA256", imageSum, path); err != nil {
				return err
			}
			return unpack(path, target)
		})
	}
	if err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	return target, nil
}

// imageSum finds a checksum in the format of sha256(1), as BSD or GNU writes it.
func imageSum(sums []byte, name string) (string, error) {
	n := regexp.QuoteMeta(name)
	re := regexp.MustCompile(`(?m)^SHA256 \(` + n + `\) = ([0-9a-f]{64})$|^([0-9a-f]{64})[ *]+` + n +
		`$`)
	m := re.FindSubmatch(sums)
	if m == nil {
		return "", fmt.Errorf("%w: its CHECKSUM.SHA256 has no line for %s", ErrSet, name)
	}
	return string(m[1]) + string(m[2]), nil
}

// unpack leaves holes where the image is empty. Most of an image is empty.
func unpack(path, target string) (err error) {
	x, err := openXZ(path)
	if err != nil {
		return err
	}
	defer x.Close()
	out, err := os.CreateTemp(filepath.Dir(target), "image-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		out.Close()
		if err != nil {
			os.Remove(out.Name())
		}
	}()
	const block = 64 << 10
	buf, zero := make([]byte, block), make([]byte, block)
	var size int64
	for {
		n, rerr := fill(x, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if errors.Is(rerr, io.EOF) {
			break
		}
		if rerr != nil {
			return x.broken(rerr)
		}
	}
	if err := out.Truncate(size); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), target)
}

// fill does the same as io.ReadFull, but returns io.EOF at the end of the stream, also after a
// short last block. A stream that was cut off ends with another error.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}
