package bpf

// SetCopySize sets the size of the memory that readers opened from now on copy small batches to. It
// returns the size of before. n is a multiple of the alignment of records.
func SetCopySize(n int) (before int) {
	before, copySize = copySize, n
	return before
}
