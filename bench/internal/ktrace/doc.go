// Package ktrace counts the system calls of the own process, thread by thread, as ktrace(2) has seen them.
package ktrace
