// Package version says which version of this module a program was built from, and what it runs on.
package version

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/zbuf-go/zbuf/sysctl"
)

// System names the system that the program runs on, with the release of FreeBSD, and the processor.
// It asks the system once, because a program that gives up its rights may not be able to ask later.
var System = sync.OnceValue(func() string {
	if release, err := sysctl.Host().String("kern.osrelease"); err == nil {
		return "FreeBSD " + release + ", " + runtime.GOARCH
	}
	return runtime.GOOS + ", " + runtime.GOARCH
})

// Module returns the module's version. If the program was built from a checkout, the commit
// follows, and "modified" if the checkout had changes.
func Module() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return module(info)
}

// linked is the version that the linker is told by -X. A build from an archive of the source, such
// as that of a port, knows neither a version nor a commit by itself.
var linked string

func module(info *debug.BuildInfo) string {
	text := info.Main.Version
	if text == "" || text == "(devel)" {
		text = cmp.Or(linked, text, "unknown")
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
