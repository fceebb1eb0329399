package capture

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

var (
	// ErrInterrupted is the cause of a context that a signal has ended.
	ErrInterrupted = errors.New("interrupted")

	// ErrDuration is the cause of a context whose time is over.
	ErrDuration = errors.New("duration is over")
)

// UntilSignal returns a context that is done with ErrInterrupted after SIGINT, SIGTERM or
// SIGHUP. After the first of them a second one ends the process at once. A program that
// ignores SIGHUP from its start, as nohup(1) arranges, goes on ignoring it.
func UntilSignal(parent context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		ends = append(ends, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, ends...)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel(ErrInterrupted)
	}()
	return ctx, cancel
}
