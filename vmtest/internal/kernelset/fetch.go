//go:build unix

package kernelset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Mirror is the default address of releases.
const Mirror = "https://download.freebsd.org/releases"

// Source is a place from which to fetch releases.
type Source struct {
	Arch   string // amd64, arm64 or riscv64
	Mirror string // base address: releases are at Mirror/amd64/15.1-RELEASE
	Cache  string
	// Stall is the longest time for which a server may send nothing. Zero means [DefaultStall].
	Stall time.Duration
	// Progress gets a progress bar, unless it is nil.
	Progress io.Writer
	// Note gets sentences about the progress.
	Note func(format string, a ...any)
}

// DefaultStall allows for slow lines, and ends the wait for a dead server.
const DefaultStall = 30 * time.Second

// resumes is the number of times that a broken download starts again without receiving a byte.
const resumes = 3

var releaseName = regexp.MustCompile(`^\d+\.\d+(-(RELEASE|RC\d+|BETA\d+))?$`)

// Release returns the kernel of a FreeBSD release such as 15.1. It fetches the release at the first
// call.
func (s Source) Release(ctx context.Context, release string) (kernel string, err error) {
	if !releaseName.MatchString(release) {
		return "", fmt.Errorf("release %q: want a number like 15.1 or 15.1-RC2", release)
	}
	if !strings.Contains(release, "-") {
		release += "-RELEASE"
	}
	dir := filepath.Join(s.Cache, "release-"+release+"-"+s.Arch)
	return once(dir, func() error {
		set, err := s.fetchSet(ctx, release, dir+".txz")
		if err != nil {
			return err
		}
		if err := extract(set, dir); err != nil {
			return err
		}
		return os.Remove(set)
	})
}

// fetchSet fetches kernel.txz to the file at target. If the download breaks off, the part that came
// stays beside that file for the next time.
func (s Source) fetchSet(ctx context.Context, release, target string) (string, error) {
	base := strings.TrimRight(s.Mirror, "/") + "/" + folder(s.Arch) + "/" + release + "/"
	manifest, err := s.small(ctx, base+"MANIFEST")
	if err != nil {
		return "", s.advise(err, base, release)
	}
	want, err := checksum(manifest, SetName)
	if err != nil {
		return "", fmt.Errorf("%s: %w", base, err)
	}
	part := target + ".part"
	s.Note("fetching %s", base+SetName)
	if err := s.fetch(ctx, base+SetName, part); err != nil {
		return "", s.advise(err, base, release)
	}
	if err := verify(part, want); err != nil {
		os.Remove(part)
		return "", fmt.Errorf("%s: %w (it is removed: try again, or another VMTEST_MIRROR)", base+SetName,
			err)
	}
	return target, os.Rename(part, target)
}

var (
	errNotThere = errors.New("not found") // the answer 404
	errSilent   = errors.New("the server has sent nothing")
)

// folder returns the folder in which a mirror has the releases for arch.
func folder(arch string) string {
	if arch == "riscv64" {
		return "riscv/riscv64"
	}
	return arch
}

// advise adds advice to err if it can't get a release, or can't reach the server.
func (s Source) advise(err error, base, release string) error {
	var net *url.Error
	if errors.As(err, &net) {
		return fmt.Errorf("%w (without a network: on a machine that has one, get %s%s and %sMANIFEST "+
			"into one folder, and name the file here by --kernel; or name a mirror by VMTEST_MIRROR)", err,
			base, SetName, base)
	}
	if errors.Is(err, errNotThere) {
		return fmt.Errorf("there is no FreeBSD %s for %s: %w (a release past its end of life is at https://ftp-archive.freebsd.org/pub/FreeBSD-Archive/old-releases, to be named by VMTEST_MIRROR)", release, s.Arch, err)
	}
	return err
}

// get requests url, from the byte from on. The caller must read the body through the returned
// reader. That reader gives up if the server sends nothing for too long.
func (s Source) get(ctx context.Context, url string, from int64) (*http.Response, *patient, error) {
	stall := s.Stall
	if stall == 0 {
		stall = DefaultStall
	}
	ctx, cancel := context.WithCancelCause(ctx)
	p := &patient{cancel: cancel, stall: stall, ctx: ctx}
	p.timer = time.AfterFunc(stall, func() { cancel(fmt.Errorf("%w for %v", errSilent, stall)) })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		p.Close()
		return nil, nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	if from > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		p.Close()
		return nil, nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	p.body = resp.Body
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		return resp, p, nil
	}
	p.Close()
	err = fmt.Errorf("the server answers %s", resp.Status)
	if resp.StatusCode == http.StatusNotFound {
		err = errNotThere
	}
	return nil, nil, fmt.Errorf("fetch %s: %w", url, err)
}

// patient reads a body, and gives up when it has waited for too long.
type patient struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
	body   io.ReadCloser
}

func (p *patient) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	p.timer.Reset(p.stall)
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(p.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (p *patient) Close() {
	p.timer.Stop()
	if p.body != nil {
		p.body.Close()
	}
	p.cancel(nil)
}

func (s Source) small(ctx context.Context, url string) ([]byte, error) {
	_, body, err := s.get(ctx, url, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	const most = 1 << 20
	b, err := io.ReadAll(io.LimitReader(body, most))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	return b, nil
}

// fetch fetches url to the file at path, and goes on where the file ends. When a connection breaks
// off, fetch connects again. There is no limit to that while bytes come.
func (s Source) fetch(ctx context.Context, url, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", url, err)
	}
	defer f.Close()
	var best int64
	for idle := 0; ; {
		end, err := s.fetchSome(ctx, url, f)
		var cut *cutError
		if !errors.As(err, &cut) {
			return err
		}
		if end > best {
			best, idle = end, 0
		}
		if idle++; idle > resumes || ctx.Err() != nil {
			return err
		}
		s.Note("%v: going on from there", err)
	}
}

// cutError says that a connection ended in the middle of a file.
type cutError struct{ err error }

func (e *cutError) Error() string { return e.err.Error() }
func (e *cutError) Unwrap() error { return e.err }

// fetchSome fetches up to the end, or until the connection breaks. It returns the length of the
// file.
func (s Source) fetchSome(ctx context.Context, url string, f *os.File) (end int64, err error) {
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	resp, body, err := s.get(ctx, url, at)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	total := at + resp.ContentLength
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return at, nil // the file is complete, or is the wrong one: the checksum shows which
	case resp.StatusCode == http.StatusPartialContent &&
		strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", at)):
	default: // the server sends the file from its start
		if at > 0 {
			if at, err = f.Seek(0, io.SeekStart); err == nil {
				err = f.Truncate(0)
			}
			if err != nil {
				return 0, err
			}
		}
		total = resp.ContentLength
	}
	var w io.Writer = f
	if s.Progress != nil {
		bar := progressbar.NewOptions64(total, progressbar.OptionSetWriter(s.Progress),
			progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription(SetName), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish())
		_ = bar.Set64(at) // a fault of the bar does not stop the download
		defer bar.Close()
		w = io.MultiWriter(f, bar)
	}
	n, err := io.Copy(w, body)
	var perr *os.PathError
	switch {
	case errors.As(err, &perr), errors.Is(err, errSilent): // a full disk; a silent server
		return at + n, fmt.Errorf("fetch %s: after %d bytes: %w", url, at+n, err)
	case err != nil:
		return at + n, &cutError{fmt.Errorf("fetch %s: broke off after %d bytes: %w", url, at+n, err)}
	}
	return at + n, nil
}
