// Agent is the first process (pid 1) of a vmtest guest. It mounts the file systems that a program
// needs, calls the host, and runs one program at a time. Each program has a separate root file
// system. Between two programs the agent puts the machine's state back.
//
// The runner builds it from an embedded copy of its source. It imports only the standard library
// and vmtest/internal/wire.
package main
