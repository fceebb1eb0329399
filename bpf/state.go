package bpf

import "sync/atomic"

// A state says what a Reader is at: a phase, and what goes with it. docs/design.md, "Which
// goroutine may do what", has who moves it.
type state uint64

const (
	stateIdle   state = iota // nobody reads
	stateBusy                // a reading method is at work, or a Release
	statePacket              // the stream has a batch, and a packet of it was handed out
	stateCopied              // the stream has a batch, at which nobody looks
	stateLease               // a lease is out; the rest of the word is its number
	stateReset               // a reset gives back what was pending; it holds the gate
	stateGone                // closed, and the engine has forgotten its memory
)

// In every phase but stateLease the word has above the phase how many packets of the stream's batch
// were delivered, and above that their captured bytes. A batch has less than 2^30 bytes.
const (
	phaseBits   = 3
	packetBits  = 27
	packetShift = phaseBits
	byteShift   = phaseBits + packetBits
)

func (s state) phase() state { return s & (1<<phaseBits - 1) }

// streams reports whether the stream has a batch and no call is at work in it.
func (s state) streams() bool { return s.phase()&^1 == statePacket } // or stateCopied

// in returns s in another phase.
func (s state) in(phase state) state { return s&^(1<<phaseBits-1) | phase }

// plus returns s with one more packet delivered.
func (s state) plus(caplen uint) state { return s + 1<<packetShift + state(caplen)<<byteShift }

// counts returns how many packets of the stream's batch were delivered, and their bytes.
func (s state) counts() (packets, bytes uint64) {
	if s.phase() == stateLease {
		return 0, 0
	}
	return uint64(s >> packetShift & (1<<packetBits - 1)), uint64(s >> byteShift)
}

// leaseState is the state while the lease of that number is out.
func leaseState(number uint64) state { return state(number)<<phaseBits | stateLease }

// An atomicState is the state that goroutines share.
type atomicState struct{ word atomic.Uint64 }

func (a *atomicState) load() state   { return state(a.word.Load()) }
func (a *atomicState) store(s state) { a.word.Store(uint64(s)) }
func (a *atomicState) move(from, to state) bool {
	return a.word.CompareAndSwap(uint64(from), uint64(to))
}
