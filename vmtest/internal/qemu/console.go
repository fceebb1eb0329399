package qemu

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Console keeps the end of the text that a guest wrote to its serial port, and looks in it for
// signs that the guest died. Any goroutine may use it.
type Console struct {
	mu    sync.Mutex
	tee   func([]byte)
	tail  []byte
	total int64
	last  time.Time
	line  []byte
	dead  string
	final bool
	named bool // the text of dead names the process
	died  chan struct{}
	news  chan struct{} // the next write closes it; nil if nobody waits for one
}

// consoleKeep is the number of bytes of the console that a Console keeps.
const consoleKeep = 64 << 10

// NewConsole returns an empty console.
func NewConsole() *Console {
	return &Console{died: make(chan struct{}), last: time.Now()}
}

// Tee makes f get every byte from now on. nil ends that.
func (c *Console) Tee(f func([]byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tee = f
}

// deathSigns are the texts that a FreeBSD kernel prints when it can't go on. The cause of a final
// one is in the configuration of the guest, so the next boot would print it again.
var deathSigns = []struct {
	re       *regexp.Regexp
	sentence string
	final    bool
}{
	{regexp.MustCompile(`^panic: (.*)`), "the guest's kernel panicked: ", false},
	{regexp.MustCompile(`^Fatal (?:double fault|trap \d+): ?(.*)`), "the guest's kernel took a fatal trap: ", false},
	{regexp.MustCompile(`^(?:KDB: enter: |db> )(.*)`), "the guest's kernel stopped in its debugger: ", false},
	{regexp.MustCompile(`^(Mounting from \S+ failed with error.*)`), "the guest found no root file system: ", true},
	{regexp.MustCompile(`^(mountroot> .*)`), "the guest found no root file system: ", true},
	{regexp.MustCompile(`^(init: not found.*)`), "the guest did not start the agent: ", true},
	{regexp.MustCompile(`^agent: (.*)`), "the guest's agent gave up: ", true},
}

// trappedProcess matches the process in the lines behind those of a trap. It tells one trap while
// booting from another.
var trappedProcess = regexp.MustCompile(`^current process\s*= (\d+ \([^)]*\))`)

// prompts are the signs on a line without an end.
var prompts = []string{"db> ", "mountroot> "}

// Write adds the next bytes of the serial port.
func (c *Console) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.total += int64(len(b))
	c.last = time.Now()
	if c.news != nil {
		close(c.news)
		c.news = nil
	}
	c.tail = append(c.tail, b...)
	if over := len(c.tail) - consoleKeep; over > 0 {
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
	for _, ch := range b {
		if ch != '\n' && ch != '\r' {
			if len(c.line) < 4096 {
				c.line = append(c.line, ch)
			}
			continue
		}
		c.check()
		c.line = c.line[:0]
	}
	for _, p := range prompts {
		if string(c.line) == p {
			c.check()
		}
	}
	tee := c.tee
	c.mu.Unlock()
	if tee != nil {
		tee(b)
	}
	return len(b), nil
}

func (c *Console) check() {
	if c.dead != "" {
		if m := trappedProcess.FindSubmatch(c.line); m != nil && !c.named {
			c.named = true
			c.dead += ", in process " + string(m[1])
		}
		return
	}
	for _, s := range deathSigns {
		if m := s.re.FindSubmatch(c.line); m != nil {
			c.final = s.final
			c.dead = s.sentence + string(bytes.TrimSpace(m[1]))
			close(c.died)
			return
		}
	}
}

// Died returns a channel that closes at the first sign of death.
func (c *Console) Died() <-chan struct{} { return c.died }

// Cause returns the sentence for the first sign of death, or an empty one.
func (c *Console) Cause() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// Final reports whether the cause of the death is in the configuration of the guest.
func (c *Console) Final() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.final
}

// Quiet returns the time since the guest last wrote.
func (c *Console) Quiet() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.last)
}

// Total returns the number of bytes written, a mark for [Console.Since].
func (c *Console) Total() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// Since returns the text that was written after the mark, as far as the Console keeps it.
func (c *Console) Since(mark int64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(c.total-mark, int64(len(c.tail)))
	return string(c.tail[int64(len(c.tail))-n:])
}

// Await returns the first match in the text that was written after the mark. It waits for at most d
// until there is one. Then it returns an empty string.
func (c *Console) Await(mark int64, re *regexp.Regexp, d time.Duration) string {
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		c.mu.Lock()
		if c.news == nil {
			c.news = make(chan struct{})
		}
		news := c.news
		c.mu.Unlock()
		if m := re.FindString(c.Since(mark)); m != "" {
			return m
		}
		select {
		case <-news:
		case <-over.C:
			return ""
		}
	}
}

// Tail returns the last n lines.
func (c *Console) Tail(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.ReplaceAll(string(c.tail), "\r", "")
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
