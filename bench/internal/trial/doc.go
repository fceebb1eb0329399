// Package trial runs one contestant in a separate process. So the system's figures for that process
// are those of the contestant alone, without the process that makes the load.
package trial
