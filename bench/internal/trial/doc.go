// Package trial runs one contestant in a process of its own, so that what the system says of a process is
// said of the contestant alone, and not of who makes the load.
package trial
