package main

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// once returns a flag that may be given once, and not without a value. So the program never
// silently ignores one of two interfaces, or of two files, or a variable of the shell that is not
// set.
func once(to *string) *onceValue { return &onceValue{to: to} }

type onceValue struct {
	to    *string
	times int
}

var errEmpty = errors.New("the value is empty")

func (v *onceValue) Set(s string) error {
	if s == "" {
		return errEmpty
	}
	*v.to = s
	v.times++
	return nil
}

func (v *onceValue) String() string { return *v.to }
func (v *onceValue) Type() string   { return "string" }

// checkOnce refuses a flag that is given twice. Set can't do that: to complete a command line in a
// shell, cobra parses it twice.
func checkOnce(c *cobra.Command, _ []string) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if v, ok := f.Value.(*onceValue); ok && v.times > 1 && err == nil {
			err = usagef("%s %s: it is given twice, and there can be only one: see %s --help", typed(f),
				v, c.CommandPath())
		}
	})
	return err
}
