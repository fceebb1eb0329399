package main

import "errors"

// once returns a flag that may be given once. So the program never silently ignores one of two
// interfaces, or of two files.
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
