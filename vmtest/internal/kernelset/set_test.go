//go:build unix

package kernelset

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

// makeSet packs files as a set.
func makeSet(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	x, err := xz.NewWriter(&b)
	require.NoError(t, err)
	w := tar.NewWriter(x)
	for name, text := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o555,
			Size: int64(len(text))}))
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, x.Close())
	return b.Bytes()
}

// noise does not compress, so that a set has a length.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b) // cannot fail
	return string(b)
}

func goodSet(t *testing.T) []byte {
	return makeSet(t, map[string]string{
		"./boot/kernel/kernel": noise(200_000), "./boot/kernel/if_bridge.ko": "a module",
		"./boot/kernel/../../../escape.ko": "x", "./usr/lib/debug/boot/kernel/kernel.debug": "x",
		"./boot/kernel/linker.hints": "x",
	})
}

func manifest(set []byte) string {
	sum := sha256.Sum256(set)
	return fmt.Sprintf("base.txz\t%s\t20000\tbase\t\"Base system\"\ton\n"+
		"kernel.txz\t%s\t900\tkernel\t\"Kernel\"\ton\n", strings.Repeat("0", 64),
		hex.EncodeToString(sum[:]))
}

func TestOpen(t *testing.T) {
	good := goodSet(t)
	for _, tt := range []struct {
		name          string
		set           []byte
		manifest, err string
	}{
		{"with its checksum", good, manifest(good), ""},
		{"without a MANIFEST", good, "", ""},
		{"another's checksum", good, manifest([]byte("other")), "is corrupt"},
		{"a MANIFEST without it", good, "base.txz\tx\n", "no checksum for kernel.txz"},
		{"cut short", good[:len(good)/2], "", "cut short or broken"},
		{"no xz", []byte("text"), "", "cut short or broken"},
		{"no kernel", makeSet(t, map[string]string{"boot/kernel/a.ko": ""}), "", "no boot/kernel/kernel"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, cache := t.TempDir(), t.TempDir()
			path := filepath.Join(dir, SetName)
			require.NoError(t, os.WriteFile(path, tt.set, 0o644))
			if tt.manifest != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte(tt.manifest), 0o644))
			}
			kernel, err := Open(path, cache)
			if tt.err != "" {
				require.ErrorIs(t, err, ErrSet)
				require.ErrorContains(t, err, tt.err)
				left, err := filepath.Glob(filepath.Join(cache, "*"))
				require.NoError(t, err)
				for _, l := range left {
					assert.True(t, strings.HasSuffix(l, ".lock"), l)
				}
				return
			}
			require.NoError(t, err)
			checkKernel(t, kernel)
			before, err := os.Stat(kernel)
			require.NoError(t, err)
			again, err := Open(path, cache)
			require.NoError(t, err)
			require.Equal(t, kernel, again)
			after, err := os.Stat(again)
			require.NoError(t, err)
			assert.True(t, os.SameFile(before, after), "extracted once")
		})
	}
}

func checkKernel(t *testing.T, kernel string) {
	t.Helper()
	b, err := os.ReadFile(kernel)
	require.NoError(t, err)
	assert.Equal(t, noise(200_000), string(b))
	list, err := os.ReadDir(filepath.Dir(kernel))
	require.NoError(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	assert.Equal(t, []string{"if_bridge.ko", "kernel"}, names)
}

func TestUnpack(t *testing.T) {
	image := make([]byte, 1<<20+777)
	copy(image[300_000:], noise(1000))
	copy(image[len(image)-5:], "end!!")
	var packed bytes.Buffer
	x, err := xz.NewWriter(&packed)
	require.NoError(t, err)
	_, err = x.Write(image)
	require.NoError(t, err)
	require.NoError(t, x.Close())
	const name = "FreeBSD-15.1-RELEASE-amd64-BASIC-CI-ufs.raw.xz"
	sum := fmt.Sprintf("%x", sha256.Sum256(packed.Bytes()))
	for _, tt := range []struct {
		name      string
		file      []byte
		sums, err string
	}{
		{"without checksums", packed.Bytes(), "", ""},
		{"BSD's layout", packed.Bytes(), "SHA256 (other) = " + sum + "\nSHA256 (" + name + ") = " + sum + "\n", ""},
		{"GNU's layout", packed.Bytes(), sum + " *" + name + "\n", ""},
		{"another checksum", packed.Bytes(), "SHA256 (" + name + ") = " + strings.Repeat("0", 64) + "\n", "is corrupt"},
		{"no checksum", packed.Bytes(), "SHA256 (other) = " + sum + "\n", "no line for"},
		{"cut short", packed.Bytes()[:packed.Len()-30], "", "cut short or broken"},
		{"no xz", []byte("text"), "", "cut short or broken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, cache := t.TempDir(), t.TempDir()
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, tt.file, 0o644))
			if tt.sums != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "CHECKSUM.SHA256"), []byte(tt.sums), 0o644))
			}
			got, err := Unpack(path, cache, t.Logf)
			if tt.err != "" {
				require.ErrorIs(t, err, ErrSet)
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			b, err := os.ReadFile(got)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(image, b))
		})
	}
}

// mirror is a local server for one release, with faults.
type mirror struct {
	set    []byte
	folder string // of the architecture; amd64 if it is empty
	wrong  bool   // sends other bytes than the MANIFEST says
	cut    int    // breaks off each answer after so many bytes
	noSkip bool   // knows no Range
	silent bool   // sends half and then nothing
	end    chan struct{}

	mu     sync.Mutex
	ranges []string
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	release := "/" + cmp.Or(m.folder, "amd64") + "/15.1-RELEASE/"
	switch r.URL.Path {
	case release + "MANIFEST":
		fmt.Fprint(w, manifest(m.set))
		return
	case release + "kernel.txz":
	default:
		http.NotFound(w, r)
		return
	}
	m.mu.Lock()
	m.ranges = append(m.ranges, r.Header.Get("Range"))
	m.mu.Unlock()
	body := bytes.Clone(m.set)
	if m.wrong {
		body[len(body)/2] ^= 1
	}
	if m.noSkip {
		r.Header.Del("Range")
	}
	switch {
	case m.cut > 0:
		http.ServeContent(&cutWriter{w, m.cut}, r, "", time.Time{}, bytes.NewReader(body))
	case m.silent:
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		w.(http.Flusher).Flush()
		<-m.end
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}
}

// cutWriter breaks the connection after left bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(b []byte) (int, error) {
	if len(b) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func source(t *testing.T, m *mirror) Source {
	m.end = make(chan struct{})
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(m.end) })
	return Source{Arch: "amd64", Mirror: srv.URL, Cache: t.TempDir(), Stall: 10 * time.Second,
		Note: t.Logf}
}

func TestRelease(t *testing.T) {
	set := goodSet(t)
	ctx := context.Background()
	t.Run("good, once", func(t *testing.T) {
		m := &mirror{set: set}
		s := source(t, m)
		var bar bytes.Buffer
		s.Progress = &bar
		kernel, err := s.Release(ctx, "15.1")
		require.NoError(t, err)
		checkKernel(t, kernel)
		assert.Contains(t, bar.String(), "kernel.txz")
		_, err = s.Release(ctx, "15.1-RELEASE")
		require.NoError(t, err)
		assert.Equal(t, []string{""}, m.ranges)
		assert.NoFileExists(t, filepath.Join(s.Cache, "release-15.1-RELEASE-amd64.txz"))
	})
	t.Run("several at once fetch one time", func(t *testing.T) {
		m := &mirror{set: set}
		s := source(t, m)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_, err := s.Release(ctx, "15.1")
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		assert.Len(t, m.ranges, 1)
	})
	t.Run("cut, taken up again", func(t *testing.T) {
		m := &mirror{set: set, cut: len(set)/3 + 1}
		s := source(t, m)
		kernel, err := s.Release(ctx, "15.1")
		require.NoError(t, err)
		checkKernel(t, kernel)
		require.Len(t, m.ranges, 3)
		assert.Equal(t, fmt.Sprintf("bytes=%d-", m.cut), m.ranges[1])
	})
	t.Run("taken up by the next run", func(t *testing.T) {
		m := &mirror{set: set}
		s := source(t, m)
		part := filepath.Join(s.Cache, "release-15.1-RELEASE-amd64.txz.part")
		require.NoError(t, os.WriteFile(part, set[:1000], 0o644))
		_, err := s.Release(ctx, "15.1")
		require.NoError(t, err)
		assert.Equal(t, []string{"bytes=1000-"}, m.ranges)
	})
	t.Run("a server without Range starts over", func(t *testing.T) {
		m := &mirror{set: set, noSkip: true}
		s := source(t, m)
		part := filepath.Join(s.Cache, "release-15.1-RELEASE-amd64.txz.part")
		require.NoError(t, os.WriteFile(part, []byte("old"), 0o644))
		_, err := s.Release(ctx, "15.1")
		require.NoError(t, err)
	})
	t.Run("nothing but cuts", func(t *testing.T) {
		m := &mirror{set: set, cut: 1, noSkip: true}
		s := source(t, m)
		ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := s.Release(ctx, "15.1")
		require.Error(t, err)
	})
	t.Run("corrupt is refused and removed", func(t *testing.T) {
		s := source(t, &mirror{set: set, wrong: true})
		_, err := s.Release(ctx, "15.1")
		require.ErrorIs(t, err, ErrSet)
		require.ErrorContains(t, err, "is corrupt")
		left, err := filepath.Glob(filepath.Join(s.Cache, "*.part"))
		require.NoError(t, err)
		assert.Empty(t, left)
	})
	t.Run("silent", func(t *testing.T) {
		s := source(t, &mirror{set: set, silent: true})
		s.Stall = 100 * time.Millisecond
		start := time.Now()
		_, err := s.Release(ctx, "15.1")
		require.ErrorContains(t, err, "the server has sent nothing for 100ms")
		assert.Less(t, time.Since(start), 10*time.Second)
	})
	t.Run("not there", func(t *testing.T) {
		s := source(t, &mirror{set: set})
		_, err := s.Release(ctx, "15.9")
		require.ErrorContains(t, err, "there is no FreeBSD 15.9-RELEASE for amd64")
		_, err = s.Release(ctx, "../15.1")
		require.ErrorContains(t, err, "want a number like 15.1")
	})
	t.Run("nobody answers", func(t *testing.T) {
		s := source(t, &mirror{set: set})
		s.Mirror = "http://127.0.0.1:1"
		_, err := s.Release(ctx, "15.1")
		require.ErrorContains(t, err, "fetch http://127.0.0.1:1/amd64/15.1-RELEASE/MANIFEST")
	})
	t.Run("no room", func(t *testing.T) {
		if _, err := os.Stat("/dev/full"); err != nil {
			t.Skip("NOT RUN: there is no /dev/full here")
		}
		s := source(t, &mirror{set: set})
		require.NoError(t, os.Symlink("/dev/full",
			filepath.Join(s.Cache, "release-15.1-RELEASE-amd64.txz.part")))
		_, err := s.Release(ctx, "15.1")
		require.ErrorContains(t, err, "no space left on device")
	})
}

// The folders are those of download.freebsd.org and of the archive of old releases.
func TestReleaseFolder(t *testing.T) {
	for arch, folder := range map[string]string{"amd64": "amd64", "arm64": "arm64",
		"riscv64": "riscv/riscv64"} {
		t.Run(arch, func(t *testing.T) {
			s := source(t, &mirror{set: goodSet(t), folder: folder})
			s.Arch = arch
			kernel, err := s.Release(context.Background(), "15.1")
			require.NoError(t, err)
			checkKernel(t, kernel)
			assert.Equal(t, "release-15.1-RELEASE-"+arch, filepath.Base(filepath.Dir(kernel)))
			s.Mirror += "/elsewhere"
			_, err = s.Release(context.Background(), "15.2")
			require.ErrorContains(t, err, "there is no FreeBSD 15.2-RELEASE for "+arch)
		})
	}
}
