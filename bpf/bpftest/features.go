package bpftest

// Features are what releases after 12.1 changed in bpf(4). The zero value is 12.1.
type Features struct {
	PadZero     bool // bytes between records are zeroed (14)
	WriteFilter bool // EVFILT_WRITE can be added (14)
	SetVLANPCP  bool // BIOCSETVLANPCP exists (14); the priority is not put into frames
	VnetDetach  bool // an interface that moves to another vnet leaves its listeners
	IfList      bool // BIOCGETIFLIST exists (16)

	// StickyFlags is set where BIOCIMMEDIATE, BIOCSHDRCMPLT, BIOCFEEDBACK and FIOASYNC cannot be
	// turned off again (read in a fork of 16).
	StickyFlags bool

	// FilterInFlight is set where a new filter, another interface and another link type do not wait
	// for packets that have passed the old filter and are not stored yet (13). Such a packet is
	// stored afterwards, behind the reset, with the link header of what the descriptor is attached
	// to by then. One that finds the descriptor detached counts as dropped.
	//
	// [Interface.BeginInject] and [WithInFlight] put packets there.
	FilterInFlight bool
}
