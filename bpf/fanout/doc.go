// Package fanout spreads the packets of one capture over several processors.
//
//	err := fanout.Run(ctx, reader, fanout.Config{
//		Workers: 4,
//		Handle: func(worker int, packets []bpf.Packet) error {
//			for _, p := range packets {
//				flows[worker].add(p.Data())
//			}
//			return nil
//		},
//	})
//
// [Run] spreads one lease at a time. The hash of a packet's flow names the worker that gets the
// packet. Run copies nothing. It releases the lease when all workers are done with it. Meanwhile
// the kernel fills the other buffer. One worker handles all packets of a flow, in the order of
// capture.
//
// # Workers
//
// A worker is a number from 0 to Workers-1, not a goroutine. Calls with the same number never
// overlap, and each sees the writes of the one before it. So memory that a program indexes by that
// number needs no lock. Run calls a worker once for a short lease. For a long lease it calls the
// worker several times, each time with the next of the worker's packets.
//
// Run's own goroutine does the work of one worker. At low rates a lease may have packets for one
// worker only. Then Run wakes no other goroutine.
//
// All workers compute hashes, each for some of the packets. So Run calls [Config].Hash from several
// goroutines at a time.
//
// # Reports
//
// To report every second, give [Run] a context with that timeout, and call Run again and again.
// Between two calls no worker runs, so the program may read what all of them have counted. Run
// loses no packet then: the kernel fills its buffers meanwhile. A deadline of the reader does the
// same.
//
// # Lifetimes
//
// The packets, and the slice that lists them, are valid until Handle returns. Copy what must live
// longer. When Run returns, all its goroutines have ended, and it keeps no reference to packets.
//
// # Slow workers
//
// The slowest worker delays the release of the lease. While the lease is out, the kernel fills the
// other buffer. When that is full as well, the kernel drops packets and counts them in
// [bpf.Stats].Dropped. A flow that alone is too much for one processor can't be spread.
package fanout
