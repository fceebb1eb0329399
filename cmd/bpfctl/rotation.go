package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/sink"
)

// rotationFlags say when capture begins a new file, and which files stay.
type rotationFlags struct {
	size       fileSize
	every      time.Duration
	packets    uint64
	names      string
	keepFiles  int
	keepBytes  fileSize
	dropOldest bool
}

func (f *rotationFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.Var(&f.size, "rotate-size", "begin a new file when one has this many bytes, such as 100M or 1G")
	fl.DurationVar(&f.every, "rotate-time", 0,
		"begin a new file when the clock shows a multiple of `D` since\nmidnight, such as 15m, 1h or 24h")
	fl.Uint64Var(&f.packets, "rotate-packets", 0, "begin a new file after `N` packets")
	fl.StringVar(&f.names, "rotate-names", "",
		"number the files (number), or name them after their time (time,\n"+
			"the default with --rotate-time): `WAY`")
	fl.IntVar(&f.keepFiles, "keep-files", 0, "keep the latest `N` files, and remove older ones")
	fl.Var(&f.keepBytes, "keep-bytes",
		"keep the latest files of so many bytes in all, and remove older\n"+
			"ones (with --rotate-size)")
	fl.BoolVar(&f.dropOldest, "drop-oldest", false,
		"remove the oldest file when the disk is full, and go on")
	c.RegisterFlagCompletionFunc("rotate-names", cobra.FixedCompletions(
		[]string{"number", "time"}, cobra.ShellCompDirectiveNoFileComp))
}

// conversion matches what tcpdump -G takes for a part of the time, as strftime(3) does.
var conversion = regexp.MustCompile(`%[A-Za-z]`)

// rotates reports whether there is a rule that ends files.
func (f *rotationFlags) rotates() bool { return f.size > 0 || f.every > 0 || f.packets > 0 }

// check checks the flags. write is the file of -w.
func (f *rotationFlags) check(c *cobra.Command, write string) error {
	given := c.Flags().Changed
	for _, flag := range []string{"rotate-size", "rotate-time", "rotate-packets"} {
		if given(flag) && (write == "" || write == "-") {
			return usagef("--%s is for files: give -w FILE", flag)
		}
	}
	folder := strings.HasSuffix(write, string(filepath.Separator))
	if fi, err := os.Stat(write); err == nil && fi.IsDir() {
		folder = true
	}
	switch {
	case f.rotates() && folder:
		return usagef("-w %s: that is a folder: name a file in it, such as %s", write,
			filepath.Join(write, "out.pcapng"))
	case f.rotates() && conversion.MatchString(filepath.Base(write)):
		return usagef("-w %s: names are no patterns here: --rotate-names time puts the time into each "+
			"name", write)
	case given("rotate-size") && f.size == 0:
		return usagef("--rotate-size 0: a file needs some bytes")
	case given("rotate-packets") && f.packets == 0:
		return usagef("--rotate-packets 0: a file needs some packets")
	}
	if given("rotate-time") {
		if err := sink.CheckEvery(f.every); err != nil {
			return usagef("--rotate-time %w", err)
		}
	}
	for _, flag := range []string{"rotate-names", "keep-files", "keep-bytes", "drop-oldest"} {
		if given(flag) && !f.rotates() {
			return usagef("--%s is for a rotation: give --rotate-size, --rotate-time or "+
				"--rotate-packets", flag)
		}
	}
	switch {
	case given("keep-files") && f.keepFiles < 2:
		return usagef("--keep-files %d: must be at least 2: the one that is written, and one before it",
			f.keepFiles)
	case given("keep-bytes") && f.size == 0:
		return usagef("--keep-bytes needs --rotate-size: only whole files are removed")
	case given("keep-bytes") && f.keepBytes < 2*f.size:
		return usagef("--keep-bytes must be at least twice --rotate-size: the file that is written, " +
			"and one before it")
	case given("rotate-names") && f.names != "number" && f.names != "time":
		return usagef("--rotate-names: %q is not one of number, time", f.names)
	}
	return nil
}

// begin begins the first file of a rotation in a folder. h, which may be nil, gets each file.
func (f *rotationFlags) begin(
	p *capture.Pipeline, spec sink.Spec, folder *os.Root, all *captureFlags, h *helper,
) (capture.Sink, error) {
	r := sink.Rotation{
		Folder: folder, Shown: filepath.Dir(all.write), Name: filepath.Base(all.write),
		Size: int64(f.size), Packets: f.packets, Every: f.every, ByPackets: all.replay != "",
		KeepFiles: f.keepFiles, KeepBytes: int64(f.keepBytes), DropOldest: f.dropOldest,
		Statistics: p.Source.Statistics,
		Say: func(line string) {
			if p.Say != nil {
				p.Say(line)
			}
		},
	}
	if f.names == "time" || f.names == "" && f.every > 0 {
		r.Naming = sink.ByTime
	}
	if h != nil {
		r.Finished = h.run
	}
	return sink.NewRotating(spec, r)
}

// untilSignal returns a context for a capture that a signal ends. SIGHUP ends the current file of a
// rotation, and no rotation ends with it.
func (f *rotationFlags) untilSignal(
	p *capture.Pipeline,
) (context.Context, context.CancelCauseFunc) {
	if !f.rotates() {
		return capture.UntilSignal(context.Background())
	}
	ctx, end, hangups := capture.UntilSignalButHangup(context.Background())
	go func() {
		for {
			select {
			case <-hangups:
				p.Rotate()
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, end
}
