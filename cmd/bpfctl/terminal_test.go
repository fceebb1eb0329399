//go:build unix

package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/fixture"
	"github.com/zbuf-go/zbuf/internal/termshot"
)

// onTerminal runs bpfctl on a terminal.
func onTerminal(
	t *testing.T, env []string, until func(screen, written string) bool, args ...string,
) (screen, written string, exit int) {
	t.Helper()
	c := newProgram(t, args...)
	c.Env = append(c.Env, "TERM=xterm", "LC_ALL=C.UTF-8", "NO_COLOR=")
	c.Env = append(c.Env, env...)
	screen, written, exit, err := termshot.Run(c, 110, 24, until)
	require.NoError(t, err, screen)
	return screen, written, exit
}

const escape = "\x1b"

// colour matches a sequence that changes the colour. It does not match those that move the cursor.
var colour = regexp.MustCompile(`\x1b\[[0-9;]*m`)

func TestColoursOnATerminalOnly(t *testing.T) {
	for _, args := range [][]string{
		{"stats", "--model", "listeners"}, {"info", "--model", "refused"},
		{"zerocopy", "--model", "refused"}, {"zerocopy", "on", "--model", "refused"},
		{"capture", "--model", "lan", "-i", "em0", "-c", "14"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			_, written, exit := onTerminal(t, nil, nil, args...)
			assert.Zero(t, exit)
			assert.Regexp(t, colour, written)
			_, written, _ = onTerminal(t, []string{"NO_COLOR=1"}, nil, args...)
			assert.NotContains(t, written, escape)
			_, written, _ = onTerminal(t, []string{"TERM=dumb"}, nil, args...)
			assert.NotContains(t, written, escape)
			out, err := newProgram(t, args...).CombinedOutput()
			require.NoError(t, err)
			assert.NotContains(t, string(out), escape, "in a pipe")
		})
	}
}

func TestWatchDrawsInPlace(t *testing.T) {
	drops := regexp.MustCompile(`1033  ids .* [▁▂▃▄▅▆▇█]`)
	see := func(screen, _ string) bool { return drops.MatchString(screen) }
	screen, written, exit := onTerminal(t, nil, see, "stats", "--model", "listeners", "--watch",
		"100ms")
	assert.Zero(t, exit)
	t.Log("\n" + screen)
	assert.Equal(t, 1, strings.Count(screen, "RECEIVED/s"), "one table")
	assert.Greater(t, strings.Count(written, "RECEIVED/s"), 1, "drawn several times")
	assert.Regexp(t, `^\d\d:\d\d:\d\d  3 listeners, every 100ms\n`, screen)
	assert.Regexp(t, `(?m)^ 812  flowd +em0 +zerocopy +\S+ +\S+ +0 +0% +2x512K`, screen)
	assert.Regexp(t, colour, written)

	_, written, _ = onTerminal(t, []string{"NO_COLOR=1"}, see, "stats", "--model", "listeners",
		"--watch", "100ms")
	assert.NotRegexp(t, colour, written)
	ascii := regexp.MustCompile(`1033  ids .*% +[.:=+*%#-]+`)
	onTerminal(t, []string{"LC_ALL=C"}, func(screen, _ string) bool {
		return ascii.MatchString(screen)
	}, "stats", "--model", "listeners", "--watch", "100ms")
	screen, written, exit = onTerminal(t, []string{"TERM=dumb"}, nil, "stats", "--model", "listeners",
		"--watch", "50ms", "-c", "2")
	assert.Zero(t, exit)
	assert.NotContains(t, written, escape)
	assert.Equal(t, 6, strings.Count(screen, "received/s="))
}

// Lines that are too long, or too many, would spoil drawing in place.
func TestWatchFitsOntoTheTerminal(t *testing.T) {
	c := newProgram(t, "stats", "--model", "listeners", "--watch", "50ms", "-c", "5")
	c.Env = append(c.Env, "TERM=xterm", "LC_ALL=C.UTF-8")
	screen, _, _, err := termshot.Run(c, 40, 5, nil)
	require.NoError(t, err)
	t.Log("\n" + screen)
	lines := strings.Split(strings.TrimSpace(screen), "\n")
	assert.Len(t, lines, 4)
	assert.Contains(t, lines[0], "3 listeners")
	assert.Contains(t, screen, "and 2 more")
}

func TestProgressOnATerminal(t *testing.T) {
	file := fixture.File(t, 0, numbered(200)...)
	screen, written, exit := onTerminal(t, nil, nil, "send", "--model", "quiet", "-i", "em0", "--pps",
		"400", file)
	assert.Zero(t, exit)
	assert.Regexp(t, `em0 .*\d+% .*\(\d+/200, `, written)
	assert.NotRegexp(t, `\d+%`, screen, "it has gone in the end")
	assert.Contains(t, screen, "bpfctl: em0: 200 packets sent")
	screen, _, exit = onTerminal(t, nil, func(screen, _ string) bool {
		return regexp.MustCompile(`\d+ packets/s`).MatchString(screen)
	},
		"send", "--model", "quiet", "-i", "em0", "--pps", "400", "--loop", "0", file)
	assert.Zero(t, exit, "interrupting is how a loop for ever ends")
	t.Log("\n" + screen)
	_, _, exit = onTerminal(t, nil, func(screen, _ string) bool {
		return strings.Contains(screen, "%")
	},
		"send", "--model", "quiet", "-i", "em0", "--pps", "10", file)
	assert.Equal(t, exitFail, exit, "interrupted before the end")
}
