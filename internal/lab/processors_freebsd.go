package lab

import (
	"runtime"

	"github.com/zbuf-go/zbuf"
)

// Processors returns the processors on which this process may run. In a 32-bit program it returns
// all processors.
func Processors() (list []int, err error) {
	if zbuf.WordSize == 4 {
		for cpu := range runtime.NumCPU() {
			list = append(list, cpu)
		}
		return list, nil
	}
	return getAffinity(levelWhich, whichProcess, -1)
}
