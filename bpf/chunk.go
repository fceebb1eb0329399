package bpf

// A chunk is memory that copies of short packets are cut from.
type chunk []byte

const chunkSize = 1 << 10

// clone returns a copy of b. Appending to the copy does not write to another one.
func (c *chunk) clone(b []byte) []byte {
	n := len(b)
	if n > len(*c) {
		if n > chunkSize/4 {
			return append([]byte(nil), b...)
		}
		*c = make([]byte, chunkSize)
	}
	copied := (*c)[:n:n]
	*c = (*c)[n:]
	copy(copied, b)
	return copied
}
