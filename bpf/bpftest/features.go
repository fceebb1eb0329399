package bpftest

// Features lists the changes that releases after 12.1 made in bpf(4). The number in parentheses is
// the first release that has the change. The zero value is 12.1. [FreeBSD12], [FreeBSD14],
// [FreeBSD15] and [FreeBSD16] are whole releases.
type Features struct {
	// PadZero is set where the kernel zeroes the bytes between two records when it stores the second
	// one. That counts as one more append to lent memory (14).
	PadZero bool

	// WriteFilter is set where EVFILT_WRITE can be added (14).
	WriteFilter bool

	// SetVLANPCP is set where BIOCSETVLANPCP exists (14). The model does not put the priority into
	// frames.
	SetVLANPCP bool

	// FilterInFlight is set where a new filter, another interface and another link type do not wait
	// for packets that have passed the old filter and are not stored yet (13). The kernel stores such
	// a packet afterwards, behind the reset. Its record has the header length of the link type that is
	// in use then. A packet that finds the descriptor detached counts as dropped.
	//
	// [Interface.BeginInject] and [WithInFlight] put packets there.
	FilterInFlight bool

	// TruncateTimeout is set where BIOCSRTIMEOUT rounds down to ticks (14). Less than a tick becomes
	// 0, which is no timeout at all. A kernel without it rounds up.
	TruncateTimeout bool

	// LongWrite is set where write(2) takes a packet of up to 16 KiB (14). Without it, the limit is a
	// page.
	LongWrite bool

	// OwnerCleared is set where a FIOSETOWN or TIOCSPGRP that the kernel refuses leaves nobody as the
	// owner (14). Without it, the owner stays.
	OwnerCleared bool

	// AttachWakes is set where BIOCSETIF to another interface and BIOCSDLT wake the readers of the
	// descriptor (14).
	AttachWakes bool

	// StalePromisc is set where a descriptor whose interface goes stays marked as promiscuous (14). If
	// it is then attached to another interface, it takes away a reference there when it leaves,
	// although it never took one. A kernel with INVARIANTS panics if there is none, and so does the
	// model.
	StalePromisc bool

	// VnetDetach is set where an interface that moves to another vnet leaves its listeners (16).
	VnetDetach bool

	// IfList is set where BIOCGETIFLIST exists (16).
	IfList bool

	// StickyFlags is set where BIOCIMMEDIATE, BIOCSHDRCMPLT, BIOCFEEDBACK and FIOASYNC cannot be
	// turned off again (16).
	StickyFlags bool

	// TapWrite is set where write(2) is left to the place where bpf listens (16):
	//   - A write of no bytes succeeds and counts nothing, on every interface.
	//   - Only packets that were sent count as written.
	//   - A packet of more than 16 KiB gives ENOMEM. The MTU does not matter.
	//   - BIOCSHDRCMPLT changes only the source address of Ethernet frames.
	//   - The copy that comes in with BIOCFEEDBACK has the source address that was written.
	TapWrite bool
}

// FreeBSD12 returns the features of FreeBSD 12.1. The rules in conformance/ were run on it.
func FreeBSD12() Features { return Features{} }

// FreeBSD14 returns the features of FreeBSD 14.0. The rules in conformance/ were run on it.
func FreeBSD14() Features {
	return Features{
		PadZero: true, WriteFilter: true, SetVLANPCP: true, FilterInFlight: true,
		TruncateTimeout: true, LongWrite: true, OwnerCleared: true, AttachWakes: true,
		StalePromisc: true,
	}
}

// FreeBSD15 returns the features of FreeBSD 15, as far as its source was read. The trees were made
// from its development branch, and were not run. docs/freebsd-15-16.md names the functions that
// show each feature.
func FreeBSD15() Features { return FreeBSD14() }

// FreeBSD16 returns the features of FreeBSD 16, as far as its source was read. The trees were made
// from its development branch, and were not run. 16 is not released. docs/freebsd-15-16.md names
// the functions that show each feature, and says what is unknown of 16.
func FreeBSD16() Features {
	f := FreeBSD15()
	f.VnetDetach, f.IfList, f.StickyFlags, f.TapWrite = true, true, true, true
	return f
}
