// Package contest measures one reader of packets beside what a user would pick instead: the same
// interface, filter and buffer memory for all, each in a process of its own.
//
//	Contest  packets, drops, CPU time, system calls, context switches and memory, from idle to overload
//	Delay    from sending to delivery, at a low rate
//
// Each is run five times, in processes of their own, for 10 s (2 s at full load), and the run that took the least CPU time counts: Go's scheduler
// has two ways of waking a process, and it is chance which one it falls into. Drops are the mean of all five. At overload, where nobody sleeps, there are four runs
// of 5 s. That is for -benchtime 1x; 3x
// measures three times as long.
//
// # Load
//
// Frames go round for ever between two bridges joined by two wires, inside the kernel, without a system call. There are
// 64, numbered, and a filter passes none of them (idle), 1 (low), 8 (mid) or all (full); at overload all pass, and
// each packet is worked on for 60 µs. The thread that carries them has the last processor to itself, and the
// contestants have the others. It isn't charged to the contestants' processes.
//
// With one processor, as under vmtest --icount, a process writes the same frames at a steady rate instead, and only those that
// pass: 100 packets a second (low), 800 (mid), 6400 (full and overload), what is due every 10 ms. It goes before all others, and Go's
// scheduler has no part in its loop. At overload each packet is worked on for 200 µs, and all packet buffers together have 48 KiB, or
// 384 KiB for packets of 1500 bytes, so that they are full from the beginning. There are two ways of it. At overload proper the reader has a processor of its own:
// the writer goes by what it and the kernel's interrupt threads leave of the processor, so that what they take, which is what brings the packets, stands still for
// the reader. At shared-overload the writer goes by the clock, and what brings the packets is taken from the reader.
//
// Delays are those of single packets of 64 bytes, which such a process writes 2 to 8 ms apart. There are ten runs of them, and of delays the mean of all counts.
//
// # Contestants
//
//	zbuf-lease     this module, lent buffers: Lease, Packets
//	zbuf-copy      the same: ReadInto
//	zbuf-buffered  this module, read(2): Lease, Packets
//	gopacket       github.com/gopacket/gopacket/bsdbpf; the filter is set through its descriptor, as it has no filters
//	go-pcap        github.com/packetcap/go-pcap: always immediate, the system's buffer size (4 KiB), and of each read(2)
//	               only the first packet is delivered; the others count as dropped
//	read2          read(2) in a loop, the buffer walked by pointer
//	bare           lent buffers, poll(2) and BIOCROTZBUF in a loop, the buffer walked by pointer: the protocol and nothing else,
//	               so a packet that sticks in the tail sticks
//
// But at that overload all have 1.5 MiB of packet buffers, except go-pcap: two of 768 KiB that are lent, or three of 512 KiB with read(2),
// where the reader has one of its own. All load one word of each cache line of each packet.
//
// # Figures
//
//	pkts/s             delivered
//	drop-%             of those that passed the filter: found no room in the kernel, or were read and not delivered; at overload, where buffers are
//	                   full at the beginning and at the end: were not delivered
//	drop-error-%       the standard error of that, by how much the runs differ
//	buffer-%           what one of the kernel's buffers holds in each run, of those that passed
//	cpu-ns/pkt         CPU time of the process per packet delivered, which is ms per million packets; the kernel accounts it at each
//	                   context switch
//	user-ns/pkt, sys-ns/pkt  the same, divided by what the statistics clock (127 Hz) happened to meet
//	cpu-us/s           CPU time of the process per second
//	syscalls/Mpkt, /s  of the reading thread, by ktrace(2) in a further run of two seconds (half a second at full load and overload), without those of Go's scheduler
//	                   (beginning and ending that run takes a few, which is a few a second: they show where it is idle)
//	proc-syscalls/Mpkt, /s  of all threads, with those
//	sleeps/Mpkt, /s    voluntary context switches of the process
//	preempted/s        involuntary ones
//	rss-KiB            the most that was resident, lent buffers included
//	kernel-KiB         the two buffers in the kernel, or lent to it and wired
//	alloc-B/pkt        allocated on Go's heap
//	p50-us, p99-us, max-us  of the delay: the mean of the runs'
//	p50-error-us …     the standard error of that
package contest
