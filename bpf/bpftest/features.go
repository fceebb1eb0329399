package bpftest

// Features are what releases after 12.1 changed in bpf(4), each with the release that has it. The
// zero value is 12.1. [FreeBSD12], [FreeBSD14], [FreeBSD15] and [FreeBSD16] are whole releases.
type Features struct {
	// PadZero is set where the bytes between two records are zeroed when the second is stored,
	// which counts as one more append to lent memory (14).
	PadZero bool

	// WriteFilter is set where EVFILT_WRITE can be added (14).
	WriteFilter bool

	// SetVLANPCP is set where BIOCSETVLANPCP exists (14). The priority is not put into frames.
	SetVLANPCP bool

	// FilterInFlight is set where a new filter, another interface and another link type do not wait
	// for packets that have passed the old filter and are not stored yet (13). Such a packet is
	// stored afterwards, behind the reset, with the link header of what the descriptor is attached
	// to by then. One that finds the descriptor detached counts as dropped.
	//
	// [Interface.BeginInject] and [WithInFlight] put packets there.
	FilterInFlight bool

	// TruncateTimeout is set where BIOCSRTIMEOUT rounds down to ticks (14). Less than a tick
	// becomes 0, which is no timeout at all. Without, it rounds up.
	TruncateTimeout bool

	// LongWrite is set where a packet of up to 16 KiB can be written (14). Without, the limit is a
	// page.
	LongWrite bool

	// OwnerCleared is set where FIOSETOWN and TIOCSPGRP that are refused leave nobody as the owner
	// (14). Without, the owner stays.
	OwnerCleared bool

	// AttachWakes is set where attaching wakes who waits for the descriptor: BIOCSETIF to another
	// interface and BIOCSDLT (14).
	AttachWakes bool

	// StalePromisc is set where a descriptor whose interface goes stays marked as promiscuous (14).
	// Attached to another interface it takes away a reference there when it leaves, which it never
	// took. With INVARIANTS the kernel panics when there is none, and so does the model.
	StalePromisc bool

	// VnetDetach is set where an interface that moves to another vnet leaves its listeners (16).
	VnetDetach bool

	// IfList is set where BIOCGETIFLIST exists (16).
	IfList bool

	// StickyFlags is set where BIOCIMMEDIATE, BIOCSHDRCMPLT, BIOCFEEDBACK and FIOASYNC cannot be
	// turned off again (16).
	StickyFlags bool

	// TapWrite is set where write(2) is left to the place where bpf listens (16). A write of no
	// bytes is a success that counts nothing, whatever the descriptor is attached to. Writes are
	// not counted; those that were sent are. More than 16 KiB is ENOMEM, and the MTU does not
	// matter. BIOCSHDRCMPLT changes nothing but the source address of Ethernet frames. The copy that
	// comes in with BIOCFEEDBACK has the source address that was written.
	TapWrite bool
}

// FreeBSD12 is FreeBSD 12.1. The rules in conformance/ were run on it.
func FreeBSD12() Features { return Features{} }

// FreeBSD14 is FreeBSD 14.0. The rules in conformance/ were run on it.
func FreeBSD14() Features {
	return Features{
		PadZero: true, WriteFilter: true, SetVLANPCP: true, FilterInFlight: true,
		TruncateTimeout: true, LongWrite: true, OwnerCleared: true, AttachWakes: true,
		StalePromisc: true,
	}
}

// FreeBSD15 is FreeBSD 15 as far as its source was read, in trees made from its development branch;
// it was not run. docs/freebsd-15-16.md names the functions that show each feature.
func FreeBSD15() Features { return FreeBSD14() }

// FreeBSD16 is FreeBSD 16 as far as its source was read, in trees made from its development branch;
// it was not run, and 16 is not released. docs/freebsd-15-16.md names the functions that show each
// feature, and what of 16 is unknown.
func FreeBSD16() Features {
	f := FreeBSD15()
	f.VnetDetach, f.IfList, f.StickyFlags, f.TapWrite = true, true, true, true
	return f
}
