package main

import "errors"

// once is a flag that may be given once: of two interfaces, or of two files, none is silently
// left out.
func once(to *string) *onceValue { return &onceValue{to: to} }

type onceValue struct {
	to    *string
	given bool
}

var errGivenTwice = errors.New("it is given twice, and there can be only one")

func (v *onceValue) Set(s string) error {
	if v.given {
		return errGivenTwice
	}
	*v.to, v.given = s, true
	return nil
}

func (v *onceValue) String() string { return *v.to }
func (v *onceValue) Type() string   { return "string" }
