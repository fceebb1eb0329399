// Package cputime reads the processor time of a process by the process's own clock.
package cputime
