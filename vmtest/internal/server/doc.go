// Package server owns the guest that the runners of one `go test` share.
//
// The first runner starts it as a process of its own, detached from all that
// the go command waits for. It boots a guest, lends it to one runner after the
// other, throws it away when its state is in doubt, and ends when no runner has
// been there for a while. See docs/vmtest.md for the states and who owns what.
package server
