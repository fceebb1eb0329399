// Package faults hurts captures on purpose, on a FreeBSD kernel, and counts what that cost: its tests
// kill, fork, starve and unplug them.
package faults
