//go:build !unix || solaris || illumos || aix

package main

import (
	"errors"
	"os"
)

func openNext(string) (*os.File, error)           { return nil, errors.ErrUnsupported }
func dressLike(f *os.File, old os.FileInfo) error { return errors.ErrUnsupported }
func syncDir(string) error                        { return errors.ErrUnsupported }
