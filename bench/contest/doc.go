// Package contest measures one reader of packets beside what a user would pick instead: the same
// interface, filter and buffer memory for all, each in a process of its own.
//
//	Contest  packets, drops, CPU time, system calls, context switches and memory, from idle to overload
//	Delay    from sending to delivery, at a low rate
//
// Lengths are for -benchtime 1x; 3x measures three times as long.
package contest
