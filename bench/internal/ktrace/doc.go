// Package ktrace counts the system calls of this process, thread by thread, as ktrace(2) reports
// them.
package ktrace
