// Agent is the first process (pid 1) of a vmtest guest. It mounts what a
// program needs, calls the host, and runs one program at a time in a root file
// system of its own, putting the machine's state back between two.
//
// The runner builds it from an embedded copy of its source: it imports the
// standard library and vmtest/internal/wire, nothing else.
package main
