package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wanted says what values the flags of a type take.
var wanted = map[string]string{
	"uint64": "a whole number that is not negative", "int": "a whole number", "float64": "a number",
	"duration": "a time such as 500ms, 90s or 1h30m", "stringSlice": "names, with commas between them",
}

// habit is a program that people know, and what does the same here as its flags. A text that begins
// with neither - nor ` is the rest of a sentence about the flag.
type habit struct {
	program string
	flags   map[string]string
}

const (
	nothing   = "has nothing like it here"
	unneeded  = "is not needed here: "
	soon      = unneeded + "each packet is written out within half a second"
	nameless  = unneeded + "names are never looked up"
	absolute  = unneeded + "numbers of TCP are always absolute"
	streamed  = unneeded + "the files are read while packets leave"
	unchanged = "is not there: packets leave as they are in the file, and " +
		"tcprewrite(1) changes them"
	rotations = "--rotate-size, --rotate-time or --rotate-packets"
)

// habits are the flags of other programs, by command.
var habits = map[string][]habit{
	"capture": {
		{"tcpdump", map[string]string{
			"r": "--replay", "s": "--snaplen", "B": "--bufsize", "p": "--no-promisc", "Q": "--direction",
			"j": "--timestamp", "A": "-X", "D": "`bpfctl info`", "L": "`bpfctl info`", "J": "--timestamp",
			"d": "`bpfctl filter`", "O": "`bpfctl filter -O`", "Z": "--user",
			"C": "--rotate-size, such as 100M,",
			"G": "--rotate-time, such as 1h,", "W": "--keep-files", "z": "--after",
			"I": "`ifconfig wlanmode monitor`",
			"l": soon, "U": soon, "N": nameless, "f": nameless, "S": absolute,
			"K": unneeded + "checksums appear with -v only",
			"E": nothing, "H": nothing, "m": nothing, "M": nothing, "q": nothing,
			"T": nothing, "u": nothing, "V": nothing, "#": nothing,
			"snapshot-length": "--snaplen", "buffer-size": "--bufsize", "print": nothing,
			"no-promiscuous-mode": "--no-promisc", "list-interfaces": "`bpfctl info`",
			"list-data-link-types": "`bpfctl info`", "linktype": "--link-type",
			"relinquish-privileges": "--user", "time-stamp-type": "--timestamp",
			"time-stamp-precision": "--timestamp", "nano": "--timestamp nano",
			"micro": "--timestamp micro", "immediate-mode": soon, "packet-buffered": soon,
			"absolute-tcp-sequence-numbers": absolute, "number": nothing,
		}},
		{"dumpcap", map[string]string{
			"a": "--duration, -c or " + rotations, "autostop": "--duration, -c or " + rotations,
			"b": rotations, "ring-buffer": rotations, "P": "--format pcap",
		}},
	},
	"filter": {{"tcpdump", map[string]string{"s": "--snaplen", "linktype": "--link-type"}}},
	"send": {{"tcpreplay", map[string]string{
		"l": "--loop", "M": "--rate, such as 10M,",
		"mbps": "--rate, such as 10M,", "x": "--multiplier", "p": "--pps",
		"t": "--topspeed", "L": "--limit", "intf1": "-i", "I": nothing, "intf2": nothing,
		"K": streamed, "preload-pcap": streamed,
		"unique-ip": unchanged, "unique-ip-loops": unchanged,
	}}},
}

// sameAs says what does the same in a command as a flag of another program, whose name is typed
// with dashes in front. It is empty if nobody knows the flag.
func sameAs(command, name, typed string) string {
	for _, h := range habits[command] {
		text, known := h.flags[name]
		switch {
		case !known:
			continue
		case strings.HasPrefix(text, "-"), strings.HasPrefix(text, "`"):
			text = "is " + text + " here"
		}
		return fmt.Sprintf(": %s's %s %s", h.program, typed, text)
	}
	return ""
}

// plainFlagError says in plain words what is wrong with a flag.
func plainFlagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var alone *pflag.ValueRequiredError
	var bad *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		typed := "-" + name
		if unknown.GetSpecifiedShortnames() == "" {
			typed = "--" + name
		}
		return fmt.Errorf("no flag %s%s", typed, sameAs(c.Name(), name, typed))
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
