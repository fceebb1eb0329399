// Package ktrace counts the system calls of this process, by thread. ktrace(2) reports them.
package ktrace
