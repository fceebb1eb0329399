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
// One lease at a time is spread: each packet goes to the worker that its flow's hash names, nothing is copied,
// and the lease is released when all workers are done with their shares. Meanwhile the kernel fills the other
// buffer. Packets of a flow are handled by one worker, in the order in which they were captured.
//
// # Workers
//
// A worker is a number from 0 to Workers-1, not a goroutine: calls with the same number never overlap, and each sees
// what the one before it wrote. So what is indexed by that number needs no lock. A worker is called once for a short
// lease, and for a long one several times, each time with the next of its packets. Run's own goroutine does the work of
// one worker itself; at low rates, when a lease has packets for one worker only, nobody else is woken.
//
// Hashes are computed by all of them, each for some of the packets. So Config.Hash is called from several goroutines at a
// time.
//
// # Lifetimes
//
// The packets, and the slice that lists them, are the worker's until Handle returns: copy what must live
// longer. Nothing else is kept of them, and nothing runs any more when Run has returned.
//
// # Slow workers
//
// The slowest share keeps the lease from being released. While it is out the kernel has the other buffer to fill;
// what comes when that is full as well is counted in [bpf.Stats].Dropped. A flow that alone is too much for
// one processor can't be spread.
package fanout
