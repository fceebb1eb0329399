// Package scaling measures what a packet costs our own reader, zero-copy and buffered, in the storm at full rate:
//
//	Readers  by the number of readers in a process, all on one interface or on up to four
//	Buffers  by the size of each buffer, from one page to the largest that the kernel grants
//
// Lengths are for -benchtime 1x; 3x measures three times as long.
package scaling
