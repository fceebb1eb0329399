//go:build !freebsd

package lab

import "runtime"

// Pin does nothing here.
func Pin(cpus ...int) error { return nil }

// Processors returns all processors.
func Processors() (list []int, err error) {
	for cpu := range runtime.NumCPU() {
		list = append(list, cpu)
	}
	return list, nil
}
