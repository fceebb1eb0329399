// Package many measures what many readers in one process cost: memory, threads, and the processor
// time that they take while no packet comes.
//
// TestMany prints the rows of a table in docs/scale.md. Each row is of a process of its own, which
// opens the readers on vlan interfaces and starts a goroutine for each of them. Then each interface
// gets numbered packets, and the test fails unless each reader has delivered those of its
// interface, and no others.
//
//	open, close  time for each reader, one after the other
//	resident     memory that the process has resident
//	wired        what the memory that the kernel can't page out has grown by: lent buffers, or those
//	             of the kernel, and everything else that it keeps for a descriptor
//	files        descriptors that the process has more than before
//	threads      of the process, while all readers wait
//	wake-ups     how often readers wake up in a second, while no packet comes
//	sleeps       how often threads of the process go to sleep in a second, meanwhile (getrusage(2))
//	idle CPU     processor time of the process for each second, while no packet comes
//	packet CPU   processor time of the process for each packet that a reader delivers, when one
//	             packet comes for each reader
package many
