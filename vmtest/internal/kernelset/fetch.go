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

// Mirror is where releases are.
const Mirror = "https://download.freebsd.org/releases"

// Source is a place to fetch releases from.
type Source struct {
	Arch   string // amd64, arm64 or riscv64
	Mirror string // base address: releases are at Mirror/amd64/15.1-RELEASE
	Cache  string
	// Stall is how long a server may send nothing; zero for [DefaultStall].
	Stall time.Duration
	// Progress gets a bar, unless it is nil.
	Progress io.Writer
	// Note gets sentences about what goes on.
	Note func(format string, a ...any)
}

// DefaultStall is patient with slow lines, not with dead ones.
const DefaultStall = 30 * time.Second

// resumes is how often a download that broke off is taken up again while it
// makes no headway.
const resumes = 3

var releaseName = regexp.MustCompile(`^\d+\.\d+(-(RELEASE|RC\d+|BETA\d+))?$`)

// Release returns the kernel of a FreeBSD release such as 15.1, which is
// fetched at first.
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

// fetchSet brings kernel.txz to the file at target. Half of it stays beside that
// for the next time.
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

// folder is where a mirror has the releases for arch.
func folder(arch string) string {
	if arch == "riscv64" {
		return "riscv/riscv64"
	}
	return arch
}

// advise adds to err what to do where a release or the whole server cannot be had.
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

// get asks for url from byte from on. The body must be read by way of the
// returned reader, which gives up when the server says nothing for too long.
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

// patient reads a body, but not for ever.
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

// fetch brings url to the file at path, going on where it ends. A connection
// that breaks off is taken up again, while there is headway without limit.
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

// cutError is the end of a connection in the midst of a file.
type cutError struct{ err error }

func (e *cutError) Error() string { return e.err.Error() }
func (e *cutError) Unwrap() error { return e.err }

// fetchSome goes on to the end or as far as it comes, and returns how far.
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
		return at, nil // all is there, or it is the wrong file: the checksum will tell
	case resp.StatusCode == http.StatusPartialContent &&
		strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", at)):
	default: // from the start, whatever we asked for
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
		_ = bar.Set64(at) // what a bar shows is worth no error
		defer bar.Close()
		w = io.MultiWriter(f, bar)
	}
	n, err := io.Copy(w, body)
	var perr *os.PathError
	switch {
	case errors.As(err, &perr), errors.Is(err, errSilent): // a full disk; a server that is of no use
		return at + n, fmt.Errorf("fetch %s: after %d bytes: %w", url, at+n, err)
	case err != nil:
		return at + n, &cutError{fmt.Errorf("fetch %s: broke off after %d bytes: %w", url, at+n, err)}
	}
	return at + n, nil
}
