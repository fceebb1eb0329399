// Package version says which version of this module a program was built from.
package version

import "runtime/debug"

// Module returns the module's version. If the program was built from a checkout, the commit
// follows, and "modified" if the checkout had changes.
func Module() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return module(info)
}

func module(info *debug.BuildInfo) string {
	text := info.Main.Version
	if text == "" {
		text = "unknown"
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			text += " " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			text += " modified"
		}
	}
	return text
}

// Build returns what Module returns, and the version of Go.
func Build() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return module(info) + " " + info.GoVersion
	}
	return "unknown"
}
