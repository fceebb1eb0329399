// Package lab gives a test the same small network on every kernel. The network is a set of pairs of
// Ethernet interfaces. A wire joins each pair, and it carries only the packets of the test. Package
// lab also gives descriptors without the guards of package zbuf, so a test can make every request
// on them.
package lab
