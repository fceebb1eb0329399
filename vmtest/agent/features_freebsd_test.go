package main

import (
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThere(t *testing.T) {
	for name, c := range map[string]struct {
		is   bool
		err  error
		want string
	}{
		"there":                   {true, nil, "yes"},
		"there, and off":          {false, nil, "no"},
		"no such entry":           {false, syscall.ENOENT, "no"},
		"nobody could look":       {false, syscall.EPERM, "unknown"},
		"a call that is not made": {true, syscall.ENOSYS, "unknown"},
	} {
		require.Equal(t, c.want, there(c.is, c.err), name)
	}
	require.Regexp(t, regexp.MustCompile(`^release \S+ \(\d+\), INVARIANTS (yes|no), `+
		`VIMAGE (yes|no), COMPAT_FREEBSD32 (yes|no), epair (yes|no), kern.hz \d+$`), features())
}
