package sink

import (
	"testing"
	"time"
	_ "time/tzdata" // for systems without it

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A boundary is where the clock shows a multiple of the interval since midnight, also on a day on
// which the clock is put forward or back.
func TestBoundariesAreOnTheClock(t *testing.T) {
	for _, c := range []struct {
		zone, from string
		every      time.Duration
		want       []string
	}{
		{"UTC", "2026-01-01T13:17:05Z", time.Hour,
			[]string{"2026-01-01T14:00:00Z", "2026-01-01T15:00:00Z"}},
		{"UTC", "2026-01-01T13:00:00Z", 15 * time.Minute, []string{"2026-01-01T13:15:00Z"}},
		{"UTC", "2026-01-01T13:00:00.9Z", time.Second, []string{"2026-01-01T13:00:01Z"}},
		{"Asia/Kolkata", "2026-01-01T13:17:00+05:30", time.Hour, []string{"2026-01-01T14:00:00+05:30"}},
		{"Asia/Kolkata", "2026-01-01T13:17:00+05:30", 24 * time.Hour,
			[]string{"2026-01-02T00:00:00+05:30"}},
		{"Europe/Berlin", "2026-03-28T12:00:00+01:00", 24 * time.Hour, // put forward at 2
			[]string{"2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"}},
		{"Europe/Berlin", "2026-03-29T00:30:00+01:00", time.Hour, []string{
			"2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"}},
		{"Europe/Berlin", "2026-03-29T00:30:00+01:00", 2 * time.Hour, []string{
			"2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"}},
		{"Europe/Berlin", "2026-03-29T00:30:00+01:00", 6 * time.Hour, []string{
			"2026-03-29T06:00:00+02:00", "2026-03-29T12:00:00+02:00"}},
		{"Europe/Berlin", "2026-10-25T00:30:00+02:00", time.Hour, []string{ // put back at 3
			"2026-10-25T01:00:00+02:00", "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00",
			"2026-10-25T03:00:00+01:00"}},
		{"Europe/Berlin", "2026-10-25T00:30:00+02:00", 6 * time.Hour, []string{
			"2026-10-25T06:00:00+01:00"}},
		{"America/Havana", "2026-03-07T12:00:00-05:00", 24 * time.Hour, // there is no midnight
			[]string{"2026-03-08T01:00:00-04:00", "2026-03-09T00:00:00-04:00"}},
	} {
		zone, err := time.LoadLocation(c.zone)
		require.NoError(t, err)
		at, err := time.Parse(time.RFC3339, c.from)
		require.NoError(t, err)
		at = at.In(zone)
		for _, want := range c.want {
			at = boundary(at, c.every)
			assert.Equal(t, want, at.Format(time.RFC3339), "%s in %s, every %v", c.from, c.zone, c.every)
		}
	}
}

// Only what a clock shows each day is taken.
func TestCheckEvery(t *testing.T) {
	for _, ok := range []string{"1s", "10s", "15m", "1h", "6h", "24h", "48h", "8s", "90m"} {
		d, _ := time.ParseDuration(ok)
		assert.NoError(t, CheckEvery(d), ok)
	}
	for _, wrong := range []string{"-1h", "500ms", "1500ms", "7s", "5h", "25h", "36h"} {
		d, _ := time.ParseDuration(wrong)
		assert.ErrorContains(t, CheckEvery(d), "seconds that divide a day", wrong)
	}
}
