package capture

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
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
	return until(parent, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}

// UntilSignalButHangup does the same as [UntilSignal], but SIGHUP does not end the context. The
// channel gets it.
func UntilSignalButHangup(
	parent context.Context,
) (context.Context, context.CancelCauseFunc, <-chan os.Signal) {
	hangups := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(hangups, syscall.SIGHUP)
	}
	ctx, cancel := until(parent, os.Interrupt, syscall.SIGTERM)
	return ctx, cancel, hangups
}

func until(parent context.Context, ends ...os.Signal) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	if signal.Ignored(syscall.SIGHUP) {
		ends = slices.DeleteFunc(ends, func(s os.Signal) bool { return s == syscall.SIGHUP })
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
