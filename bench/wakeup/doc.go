// Package wakeup shows what a process does between two wake-ups: which thread makes which system
// calls, which of them sleep, and what that costs.
//
// TestWakeUps is a measurement. It prints the rows of the table in docs/wake-up.md. Each reader
// captures in a process of its own, with the read timeout and the buffers of package contest. The
// process first runs without a trace, which gives its processor time. Then ktrace(2) follows all
// its threads. The goroutine that reads is not locked to its thread. If it were, the scheduler
// would hand each wake-up from one thread to another.
//
//	CPU        processor time of the process for each second, by its own clock: the least of
//	           three runs
//	batches    how often the reader returned with packets
//	sleeps     how often a thread went to sleep
//	calls      system calls of all threads
//	by thread  the same, by call, the busiest thread first; kevent-go is of the poller of Go's
//	           runtime; a number in parentheses says how often the thread slept in that call
//
// TestCauses counts why threads wake up, for a minute at 0, 10 and 100 packets a second. It tells
// the causes apart by the call in which the thread slept, and by those that it makes next.
//
//	packet        the kernel told of a packet, in immediate mode
//	read timeout  the kernel's read timeout ended, and a packet had come before; or the reader's
//	              own, where it does not sleep in Go's poller and packets flow
//	check         the time of a sleep ended, and the reader looked whether its interface is still
//	              there
//	timer         another timer of the program, such as the one that ends the measurement
//	sysmon        the monitor thread of Go's scheduler
//	hand-over     a thread of the scheduler was woken by another
//	other         everything else
//	collections   how often the garbage collector ran in that minute
//
// These are the readers:
//
//	default    bpf.PacketReader on a reader of the zero Config
//	lease      bpf.Reader, lent buffers
//	buffered   bpf.Reader, read(2)
//	immediate  bpf.Reader, lent buffers, immediate mode
//	floor      zbuf.Device alone: Wait, Rotate, Acknowledge. It reads no tail, and does not notice
//	           that its interface has gone
package wakeup
