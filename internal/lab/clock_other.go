//go:build !freebsd

package lab

import "time"

// Realtime returns the time of day. There is no clock that ticks.
func Realtime(bool) time.Time { return time.Now() }

var began = time.Now()

// Uptime returns the time since the program began.
func Uptime(bool) time.Duration { return time.Since(began) }
