package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FillBoth delivers frames until both buffers of a reader are full, so that one more is dropped.
func FillBoth(dropped func() uint64, deliver func()) {
	for before := dropped(); dropped() == before; {
		for range 200 {
			deliver()
		}
	}
}

// BesideLease times two ways to read a buffer of n packets. The figures are of the fastest turn:
// whatever else the machine does only adds. Nobody times fill, which fills the buffers.
func BesideLease(b *testing.B, n uint64, fill func(), lease, way func() error) {
	timed := func(read func() error) time.Duration {
		fill()
		begin := time.Now()
		err := read()
		took := time.Since(begin)
		require.NoError(b, err)
		return took
	}
	ofLease, ofWay := time.Hour, time.Hour
	for b.Loop() {
		ofLease = min(ofLease, timed(lease))
		ofWay = min(ofWay, timed(way))
	}
	b.ReportMetric(float64(ofWay.Nanoseconds())/float64(n), "ns/packet")
	b.ReportMetric(float64(ofLease.Nanoseconds())/float64(n), "lease-ns/packet")
	b.ReportMetric(float64(ofWay)/float64(ofLease), "ratio-to-lease")
	b.ReportMetric(0, "ns/op")
}
