//go:build !freebsd

package trial

import "errors"

func run(Spec) (Result, error) { return Result{}, errors.ErrUnsupported }
