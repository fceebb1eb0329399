// Package contest compares readers of packets. All have the same interface, filter and buffer
// memory. Each runs in a separate process.
//
//	Contest   packets, drops, CPU time, system calls, context switches and memory, idle to overload
//	Rotation  drops at overload by the size of the buffers
//	Delay     from sending to delivery, at a low rate
//
// Each measurement has five runs of 4 s (12 s idle, 2 s at full load), each in a new process. The
// run with the median of the CPU time counts. Drops are the mean of all runs. At overload there are
// four runs of 2 s. These times are for -benchtime 1x. With 3x, every run takes three times as
// long.
//
// # Load
//
// Frames go round for ever between two bridges that two wires join. They stay inside the kernel and
// take no system call. There are 64 numbered frames. A filter passes none of them (idle), 1 (low),
// 8 (mid) or all (full). At overload it passes all, and the reader works on each packet for 60 µs.
//
// The kernel thread that carries the frames has the last processor to itself. The contestants have
// the others. So its time is not charged to the contestants' processes.
//
// With one processor, as under vmtest --icount, a process writes the same frames at a steady rate.
// It writes only those that pass: 100 packets a second (low), 800 (mid) or 6400 (full and
// overload). Every 10 ms it writes what is due. It goes before all other processes, and Go's
// scheduler has no part in its loop. At overload the reader works on each packet for 200 µs. All
// packet buffers together then have 48 KiB, or 384 KiB for packets of 1500 bytes. So they are full
// from the beginning.
//
// There are two kinds of overload with one processor.
//
//   - overload: the reader has the processor as if it were alone. The writer's clock runs only
//     while the writer and the kernel's interrupt threads leave the processor to others. So the
//     time that they take to bring packets stands still for the reader.
//   - shared-overload: the writer goes by the clock. The time to bring packets is taken from the
//     reader.
//
// Delays are those of single packets of 64 bytes. Such a process writes them 2 to 8 ms apart. There
// are ten runs, and the mean of all ten counts.
//
// # Contestants
//
//	zbuf-lease     this module, lent buffers: Lease, Packets
//	zbuf-packet    the same: ZeroCopyReadPacketData
//	zbuf-copy      the same: ReadInto
//	zbuf-packetreader  the same: ZeroCopyReadPacketData of a PacketReader
//	zbuf-gopacket  the same: ZeroCopyReadPacketData of gopacketbpf, with gopacket's CaptureInfo
//	zbuf-packetconn  ReadFrom of package packet: always immediate, with buffers of its own size, and
//	               it allocates the address of each packet
//	zbuf-buffered  this module, read(2): Lease, Packets
//	gopacket       github.com/gopacket/gopacket/bsdbpf; it has no filters, so the benchmark sets the
//	               filter through its descriptor
//	go-pcap        github.com/packetcap/go-pcap: always immediate, the system's buffer size (4 KiB);
//	               of each read(2) it delivers only the first packet, and the others count as dropped
//	read2          read(2) in a loop; it walks the buffer by pointer
//	bare           lent buffers, poll(2) and BIOCROTZBUF in a loop; it walks the buffer by pointer.
//	               It has the protocol and nothing else, so it does not read a tail that sticks.
//
// These are programs. Each starts in the process of a trial, and is measured by itself:
//
//	libpcap, libpcap-next        C: pcap_loop and pcap_next_ex, with read(2)
//	libpcap-zc, libpcap-zc-next  the same with lent buffers, if libpcap has that mode
//	cgo-libpcap, cgo-libpcap-zc  github.com/gopacket/gopacket/pcap, which calls libpcap by cgo
//	bare-c                       bare, in C
//
// libpcap has no setting for its mode. It lends buffers if net.bpf.zerocopy_enable allows that, so
// the trial clears it while a program opens that is to use read(2).
//
// A contestant that takes more than five seconds too long is killed. Then stuck is 1.
//
// Except at the overload above, all contestants but go-pcap and zbuf-packetconn have 1.5 MiB of
// packet buffers: two lent buffers of 768 KiB, or three of 512 KiB with read(2), where the third is
// the reader's. All load one word of each cache line of each packet.
//
// # Figures
//
//	pkts/s             delivered
//	drop-%             of the packets that passed the filter: those that found no room in the kernel,
//	                   or that the contestant read and did not deliver. At overload, where buffers
//	                   are full at the beginning and at the end: those that were not delivered
//	drop-error-%       the standard error of that, from how much the runs differ
//	buffer-%           what one of the kernel's buffers holds in each run, of those that passed
//	cpu-ns/pkt         CPU time of the process for each packet delivered, which is ms for a million
//	                   packets; the kernel accounts it at each context switch
//	                   (CLOCK_PROCESS_CPUTIME_ID)
//	least-cpu-ns/pkt, -us/s  the same, of the cheapest run
//	cpu-spread-%       by how much the dearest of the runs cost more than the cheapest
//	user-ns/pkt, sys-ns/pkt  from getrusage(2). The kernel divides the time by what the statistics
//	                   clock (127 Hz) happened to meet so far, and lets neither part shrink.
//	                   After a few ticks their sum can be twice what was used
//	cpu-us/s           CPU time of the process for each second
//	syscalls/Mpkt, /s  of the reading thread, without those of Go's scheduler. ktrace(2) counts them
//	                   in a further run of 0.8 s (0.4 s at full load and overload). Beginning
//	                   and ending that run takes a few, which show where the reader is idle
//	proc-syscalls/Mpkt, /s  of all threads, with those of Go's scheduler
//	sleeps/Mpkt, /s    voluntary context switches of the process
//	preempted/s        involuntary ones
//	rss-KiB            the most that was resident, lent buffers included
//	kernel-KiB         the two buffers in the kernel, or lent to it and wired
//	alloc-B/pkt        allocated on Go's heap
//	p99-us             in Contest: of the delays in three further runs, from write(2) at the other
//	                   end. The packets wait for the read timeout. Only the writer for one
//	                   processor stamps
//	p50-us, p99-us, max-us  in Delay: the mean of the runs'
//	p50-error-us …     the standard error of that
package contest
