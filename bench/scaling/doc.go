// Package scaling measures what a packet costs the reader of this module, zero-copy and buffered,
// in the storm at full rate:
//
//	Readers  by the number of readers in a process, all on one interface or on up to four
//	Buffers  by the size of each buffer, from one page to the largest that the kernel grants
//
// The times are for -benchtime 1x. With 3x, every run takes three times as long.
package scaling
