package exporter

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Path is where the metrics are.
const Path = "/metrics"

// What a client may use of the server. A scrape takes milliseconds and has no body.
const (
	maxConnections = 16
	maxScrapes     = 4 // at a time
	maxHeader      = 8 << 10
)

// Limits are the times that a client has.
type Limits struct {
	Request time.Duration // to send a request
	Answer  time.Duration // to take the answer
	Idle    time.Duration // between two requests
}

// DefaultLimits are for scrapes over a network.
var DefaultLimits = Limits{
	Request: 5 * time.Second, Answer: 10 * time.Second, Idle: 2 * time.Minute,
}

// Handler serves the metrics. If a look fails, the answer is an error of the server. failed, if not
// nil, is called with the reason.
func (e *Exporter) Handler(failed func(error)) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, ErrorLog: errorLog(failed),
	}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "The metrics are at "+Path+".\n")
	})
	return mux
}

// errorLog makes a function promhttp's log. What promhttp logs has an error among other values.
type errorLog func(error)

func (f errorLog) Println(values ...any) {
	for _, v := range values {
		if err, ok := v.(error); ok && f != nil {
			f(plain(err))
		}
	}
}

// plain returns the reason why a look failed, or err if it is something else.
func plain(err error) error {
	var look lookError
	if errors.As(err, &look) {
		return look.error
	}
	return err
}

// Serve answers on l until ctx is done. It closes l. It returns nil if ctx ended it.
func (e *Exporter) Serve(
	ctx context.Context, l net.Listener, limits Limits, failed func(error),
) error {
	s := &http.Server{
		Handler:           e.Handler(failed),
		ReadHeaderTimeout: limits.Request,
		ReadTimeout:       limits.Request,
		WriteTimeout:      limits.Answer,
		IdleTimeout:       limits.Idle,
		MaxHeaderBytes:    maxHeader,
		// It would log what clients do wrong.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.Background(), limits.Request)
		defer cancel()
		if err := s.Shutdown(last); err != nil {
			s.Close()
		}
		ended <- nil
	})
	err := s.Serve(netutil.LimitListener(l, maxConnections))
	if stop() {
		return err // ctx did not end it
	}
	return <-ended
}
