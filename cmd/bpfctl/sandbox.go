package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/capture"
)

// readers is a source that has readers of interfaces.
type readers interface{ Readers() []*bpf.Reader }

// enterSandbox gives up every right of the process that a capture does not need. enter makes the
// process enter capability mode. enterSandbox returns a sentence for the user if the system has no
// sandbox where it should have one.
func enterSandbox(src capture.Source, enter func() error) (note string, err error) {
	var all []*bpf.Reader
	if r, ok := src.(readers); ok {
		all = r.Readers()
	}
	for _, r := range all {
		if err = r.Sandbox(bpf.Sandbox{}); err != nil {
			break
		}
	}
	if err == nil && enter != nil {
		err = enter()
	}
	switch {
	case errors.Is(err, zbuf.ErrForeignOS): // only FreeBSD promises it
		return "", nil
	case errors.Is(err, syscall.ENOSYS):
		return "no sandbox, because this kernel has no Capsicum: the capture keeps all its rights", nil
	case err != nil:
		return "", fmt.Errorf("can't enter the sandbox (--no-sandbox goes on without): %w", err)
	}
	if os.Getenv(tryRights) != "" {
		return tried(all), nil
	}
	return "", nil
}

// tryRights is a variable of the environment for tests. It makes a capture in the sandbox try what
// it must not be able to do, and say what happened.
const tryRights = "BPFCTL_TEST_TRY_RIGHTS"
