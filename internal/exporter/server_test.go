package exporter

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patience = 20 * time.Second

// serve starts a server on a real listener. The function returned ends it.
func serve(
	t *testing.T, e *Exporter, limits Limits, failed func(error),
) (address string, end func() error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(ctx, l, limits, failed) }()
	end = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { end() })
	return l.Addr().String(), end
}

func get(t *testing.T, address string) (*http.Response, string) {
	t.Helper()
	c := http.Client{Timeout: patience}
	defer c.CloseIdleConnections()
	r, err := c.Get("http://" + address + Path)
	require.NoError(t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r, string(b)
}

func TestScrape(t *testing.T) {
	l := &list{}
	l.set(listener("ids", 7, "em0", 100, 90, 30))
	address, end := serve(t, New(Config{Listeners: l.get}), DefaultLimits, nil)
	r, text := get(t, address)
	assert.Equal(t, http.StatusOK, r.StatusCode)
	assert.Contains(t, r.Header.Get("Content-Type"), "text/plain; version=0.0.4")
	assert.Equal(t, 90.0,
		parse(t, strings.NewReader(text))["bpf_matched_packets_total{interface=em0,program=ids}"])
	l.set()
	_, text = get(t, address)
	got := parse(t, strings.NewReader(text))
	assert.Equal(t, 90.0, got["bpf_matched_packets_total{interface=em0,program=ids}"], "it has gone")
	assert.Equal(t, 0.0, got["bpf_listeners{interface=em0,program=ids}"])
	require.NoError(t, end())
	_, err := net.Dial("tcp", address)
	assert.Error(t, err, "the listener is closed")
}

func TestLookThatFailsIsAnErrorOfTheServer(t *testing.T) {
	l := &list{}
	var mu sync.Mutex
	var said []error
	address, _ := serve(t, New(Config{Listeners: l.get}), DefaultLimits, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, err)
	})
	broken := errors.New("no list")
	l.fail(broken)
	r, text := get(t, address)
	assert.Equal(t, http.StatusInternalServerError, r.StatusCode)
	assert.Contains(t, text, "no list")
	mu.Lock()
	assert.Equal(t, []error{broken}, said)
	mu.Unlock()
	l.set(listener("ids", 7, "em0", 1, 1, 1))
	r, _ = get(t, address)
	assert.Equal(t, http.StatusOK, r.StatusCode, "the next look is a new one")
}

func TestServerOnlyReads(t *testing.T) {
	address, _ := serve(t, New(Config{Listeners: (&list{}).get}), DefaultLimits, nil)
	for request, want := range map[string]int{
		"POST /metrics":    http.StatusMethodNotAllowed,
		"PUT /metrics":     http.StatusMethodNotAllowed,
		"DELETE /metrics":  http.StatusMethodNotAllowed,
		"HEAD /metrics":    http.StatusOK,
		"GET /":            http.StatusOK,
		"GET /debug/pprof": http.StatusNotFound,
	} {
		method, path, _ := strings.Cut(request, " ")
		q, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(""))
		require.NoError(t, err)
		r, err := http.DefaultClient.Do(q)
		require.NoError(t, err)
		r.Body.Close()
		assert.Equal(t, want, r.StatusCode, request)
	}
	http.DefaultClient.CloseIdleConnections()
}

// A client that sends nothing, or only a part of a request, loses its connection. Until then at
// most 16 can keep others waiting.
func TestSlowClientsAreCutOff(t *testing.T) {
	address, _ := serve(t, New(Config{Listeners: (&list{}).get}),
		Limits{Request: 200 * time.Millisecond, Answer: time.Second, Idle: time.Second}, nil)
	var slow []net.Conn
	for i := range maxConnections {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer c.Close()
		if i%2 == 0 {
			_, err = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n")
			require.NoError(t, err)
		}
		slow = append(slow, c)
	}
	r, _ := get(t, address) // waits for one of them to be cut off
	assert.Equal(t, http.StatusOK, r.StatusCode)
	for _, c := range slow {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		b, err := io.ReadAll(c)
		// One whose request came late was reset.
		assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server closes it")
		assert.NotContains(t, string(b), "200 OK")
	}
}

func TestHeaderThatIsTooLongIsRefused(t *testing.T) {
	address, _ := serve(t, New(Config{Listeners: (&list{}).get}), DefaultLimits, nil)
	q, err := http.NewRequest("GET", "http://"+address+Path, nil)
	require.NoError(t, err)
	q.Header.Set("X-Long", strings.Repeat("x", 4*maxHeader))
	r, err := http.DefaultClient.Do(q)
	require.NoError(t, err)
	r.Body.Close()
	assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, r.StatusCode)
	http.DefaultClient.CloseIdleConnections()
}
