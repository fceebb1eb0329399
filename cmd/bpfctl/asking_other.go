//go:build !unix

package main

import "os"

// askingSignals is empty: there are no such signals.
var askingSignals []os.Signal
