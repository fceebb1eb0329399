// Package server runs the guest that the runners of one `go test` share.
//
// The first runner starts the server as a separate process, detached from everything that the go
// command waits for. The server boots a guest and lends it to one runner after the other. If the
// guest's state is in doubt, the server ends the guest. The server ends when no runner has been
// there for a while. See docs/vmtest.md for the states and the lifetimes.
package server
