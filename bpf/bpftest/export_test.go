package bpftest

// WordAt gives the tests a reader's atomic view of shared memory.
var WordAt = wordAt
