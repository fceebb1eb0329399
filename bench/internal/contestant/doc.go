// Package contestant has the readers that are measured against each other, all behind one interface: each
// counts packets and bytes, and touches every packet alike.
package contestant
