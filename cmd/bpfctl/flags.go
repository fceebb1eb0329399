package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wanted says what values the flags of a type take.
var wanted = map[string]string{
	"uint64": "a whole number that is not negative", "int": "a whole number", "float64": "a number",
	"duration": "a time such as 500ms, 90s or 1h30m", "stringSlice": "names, with commas between them",
}

// ofTcpdump says what does the same as a flag of tcpdump(1), by command.
var ofTcpdump = map[string]map[string]string{
	"capture": {
		"r": "--replay", "s": "--snaplen", "B": "--bufsize", "p": "--no-promisc", "Q": "--direction",
		"j": "--timestamp", "A": "-X", "D": "`bpfctl info`", "d": "`bpfctl filter`", "Z": "--user",
		"C": "--rotate-size", "G": "--rotate-time", "W": "--keep-files", "z": "--after",
	},
	"filter": {"s": "--snaplen"},
}

// plainFlagError says in plain words what is wrong with a flag.
func plainFlagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var alone *pflag.ValueRequiredError
	var bad *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		if unknown.GetSpecifiedShortnames() == "" {
			return fmt.Errorf("no flag --%s", unknown.GetSpecifiedName())
		}
		name := unknown.GetSpecifiedName()
		if same := ofTcpdump[c.Name()][name]; same != "" {
			return fmt.Errorf("no flag -%s: tcpdump's -%[1]s is %s here", name, same)
		}
		return fmt.Errorf("no flag -%s", name)
	case errors.As(err, &alone):
		argument, _ := pflag.UnquoteUsage(alone.GetFlag()) // as the help calls it
		return fmt.Errorf("%s: %s is missing", typed(alone.GetFlag()), argument)
	case errors.As(err, &bad):
		return fmt.Errorf("%s%w", typed(bad.GetFlag()), plainValueError(bad))
	}
	return err
}

// plainValueError says what is wrong with the value of a flag. The name of the flag comes before.
func plainValueError(bad *pflag.InvalidValueError) error {
	f, value := bad.GetFlag(), bad.GetValue()
	if errors.Is(bad, errEmpty) {
		return fmt.Errorf(": %w", errEmpty)
	}
	argument, _ := pflag.UnquoteUsage(f)
	want, ok := wanted[f.Value.Type()]
	switch {
	case f.NoOptDefVal != "":
		return fmt.Errorf(" %s: it takes no value", value)
	case !ok: // the type of the flag is this program's, and so is the error
		return fmt.Errorf(" %s: %w", value, bad.Unwrap())
	case f.Name == "count":
		want = "at least 1"
	}
	return fmt.Errorf(" %s: %s must be %s", value, argument, want)
}

// typed returns a flag as people type it.
func typed(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}
