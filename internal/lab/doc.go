// Package lab gives a test the same small network on every kernel: pairs of Ethernet
// interfaces joined by a wire with nothing on it but the test's own packets, and
// descriptors without the guards of package zbuf, on which every request can be made.
package lab
