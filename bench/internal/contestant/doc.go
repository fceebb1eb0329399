// Package contestant has the readers that the benchmarks compare, all behind one interface. Each
// counts packets and bytes, and touches every packet in the same way.
package contestant
