package load

// StampAt is where a stamped packet has the time it was sent, in nanoseconds of Now, little-endian.
const StampAt = 24
