// Package faults tests captures under faults, on a FreeBSD kernel. Its tests kill and fork
// capturing processes, take processor time and memory from them, and destroy their interfaces. The
// tests count the packets and resources that are lost.
package faults
