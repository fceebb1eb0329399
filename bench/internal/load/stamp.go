package load

// StampAt is the offset of the send time in a stamped packet. The time is in nanoseconds of Now,
// little-endian.
const StampAt = 24
