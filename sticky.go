package zbuf

import (
	"errors"
	"fmt"
)

// ErrSticky is in the error of SetImmediate(false), SetHeaderComplete(false) or SetFeedback(false)
// if the kernel cannot switch the flag off again. Open another descriptor instead.
var ErrSticky = errors.New("this kernel can't switch the flag off again; open another descriptor")

// CanClear reports whether the kernel can switch the flags of [Device.SetImmediate],
// [Device.SetHeaderComplete] and [Device.SetFeedback] off again. FreeBSD 12 and 14 can. A tree of
// 16 that was read can't (not run): it combines the new value with the old one.
//
// Only BIOCSHDRCMPLT can be read back, and asking sets it. So CanClear needs a scratch descriptor
// of the same kernel, which the caller closes afterwards. d remembers the answer. If it is no,
// SetImmediate(false) and SetFeedback(false) return [ErrSticky]. Call CanClear before [Device.Lock]
// or [Device.Limit].
//
// Errors:
//   - Those of the requests on scratch.
func (d *Device) CanClear(scratch *Device) (bool, error) {
	if err := scratch.SetHeaderComplete(true); err != nil {
		return false, err
	}
	err := scratch.SetHeaderComplete(false)
	sticky := errors.Is(err, ErrSticky)
	if err != nil && !sticky {
		return false, err
	}
	d.sticky.Store(sticky)
	return !sticky, nil
}

// SetImmediate sets whether every packet wakes waiting readers. Request: [BIOCIMMEDIATE], legal
// when locked.
//
// Errors:
//   - [ErrSticky]: on is false, and [Device.CanClear] returned false.
func (d *Device) SetImmediate(on bool) error { return d.setFlag(BIOCIMMEDIATE, on) }

// SetFeedback sets whether written packets also arrive as if they had been received. Request:
// [BIOCFEEDBACK], legal when locked.
//
// Errors:
//   - [ErrSticky]: on is false, and [Device.CanClear] returned false.
func (d *Device) SetFeedback(on bool) error { return d.setFlag(BIOCFEEDBACK, on) }

func (d *Device) setFlag(req Request, on bool) error {
	if !on && d.sticky.Load() {
		return &Error{Op: req.String(), Interface: d.Name(), Err: ErrSticky}
	}
	return d.setBool(req, on)
}

// HeaderComplete reports whether written packets keep their source address. Request:
// [BIOCGHDRCMPLT], legal when locked.
func (d *Device) HeaderComplete() (bool, error) {
	v, err := d.get(BIOCGHDRCMPLT)
	return v != 0, err
}

// SetHeaderComplete sets whether written packets keep the link-level source address that they have.
// Otherwise the kernel fills in the address of the interface. Request: [BIOCSHDRCMPLT].
//
// Errors:
//   - [ErrSticky]: on is false, and the kernel has not switched the flag off.
func (d *Device) SetHeaderComplete(on bool) error {
	if err := d.setBool(BIOCSHDRCMPLT, on); err != nil || on {
		return err
	}
	still, err := d.HeaderComplete()
	if err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	if still {
		return &Error{Op: BIOCSHDRCMPLT.String(), Interface: d.Name(), Err: ErrSticky}
	}
	return nil
}
