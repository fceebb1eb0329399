package qemu

import (
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConsoleKnowsDeath(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"panic", "x\r\npanic: page fault\r\ncpuid = 0\r\n", "the guest's kernel panicked: page fault"},
		{"the first sign counts", "Fatal trap 12: page fault while in kernel mode\r\npanic: page fault\r\n", "the guest's kernel took a fatal trap: page fault while in kernel mode"},
		{"a trap tells its process", "Fatal trap 12: page fault while in kernel mode\r\ncpuid = 1; apic id = 01\r\ncurrent process\t\t= 13 (g_event)\r\ncurrent process\t\t= 1 (init)\r\n", "the guest's kernel took a fatal trap: page fault while in kernel mode, in process 13 (g_event)"},
		{"debugger prompt without a line's end", "KDB: stack backtrace:\r\ndb> ", "the guest's kernel stopped in its debugger: "},
		{"entered debugger", "KDB: enter: sysctl debug.kdb.enter\r\n", "the guest's kernel stopped in its debugger: sysctl debug.kdb.enter"},
		{"no root", "\r\nmountroot> ", "the guest found no root file system: mountroot>"},
		{"agent", "agent: no room\r\n", "the guest's agent gave up: no room"},
		{"talk of panic is none", "do not panic: please\r\nKDB: debugger backends: ddb\r\nstdb> \r\n", ""},
		{"boot messages", "Copyright (c) 1992\r\nmd0: Preloaded image\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 7, 1000} { // however it is cut
				c := NewConsole()
				for text := tt.text; text != ""; {
					n := min(size, len(text))
					_, err := c.Write([]byte(text[:n]))
					require.NoError(t, err)
					text = text[n:]
				}
				assert.Equal(t, tt.want, c.Cause())
				select {
				case <-c.Died():
					assert.NotEmpty(t, tt.want)
				default:
					assert.Empty(t, tt.want)
				}
			}
		})
	}
}

func TestConsoleKeepsTheEnd(t *testing.T) {
	c := NewConsole()
	for range 10000 {
		_, _ = c.Write([]byte("a line of the boot\r\n"))
	}
	mark := c.Total()
	_, _ = c.Write([]byte("one\r\ntwo\r\n"))
	assert.Equal(t, "one\r\ntwo\r\n", c.Since(mark))
	assert.Equal(t, "a line of the boot\none\ntwo", c.Tail(3))
	assert.Len(t, c.Since(0), consoleKeep)
}

// Await sees what was written before it and what comes while it waits, but nothing before the mark.
func TestConsoleAwait(t *testing.T) {
	killed := regexp.MustCompile(`pid \d+ was killed`)
	for name, c := range map[string]struct {
		before, marked, later string
		after                 time.Duration
		want                  string
		took                  time.Duration
	}{
		"before the mark":   {"pid 1 was killed\n", "", "", 0, "", 2 * time.Second},
		"there already":     {"", "pid 2 was killed\n", "", 0, "pid 2 was killed", 0},
		"later":             {"", "", "pid 3 was killed\n", time.Second, "pid 3 was killed", time.Second},
		"in two pieces":     {"", "pid 4 was", " killed\n", time.Second, "pid 4 was killed", time.Second},
		"too late":          {"", "", "pid 5 was killed\n", 3 * time.Second, "", 2 * time.Second},
		"only another line": {"", "x\n", "y\n", time.Second, "", 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				console := NewConsole()
				write := func(text string) {
					_, err := console.Write([]byte(text))
					assert.NoError(t, err)
				}
				write(c.before)
				mark := console.Total()
				write(c.marked)
				go func() {
					time.Sleep(c.after) // in the time of the bubble
					write(c.later)
				}()
				begin := time.Now()
				assert.Equal(t, c.want, console.Await(mark, killed, 2*time.Second))
				assert.Equal(t, c.took, time.Since(begin))
				time.Sleep(c.after)
			})
		})
	}
}
