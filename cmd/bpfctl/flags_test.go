package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Each short flag of tcpdump 4.99 does here what it does there, or the error says what to do. Its
// -b is left to dumpcap, whose -b more people type.
func TestFlagsOfTcpdump(t *testing.T) {
	c, _, err := newRoot(&target{}).Find([]string{"capture"})
	assert.NoError(t, err)
	const same = "cehiFntvwxXy" // -h is help
	for _, flag := range "ABcCdDeEfFGhHiIjJKlLmMnNOpqQrsStTuUvVwWxXyzZ#" {
		if strings.ContainsRune(same, flag) {
			assert.True(t, flag == 'h' || c.Flags().ShorthandLookup(string(flag)) != nil, "-%c", flag)
			continue
		}
		var stdout, stderr strings.Builder
		assert.Equal(t, exitUsage, run([]string{"capture", "-" + string(flag)}, nil, &stdout, &stderr))
		assert.Contains(t, stderr.String(), "tcpdump's -"+string(flag)+" ", "-%c", flag)
	}
}

// What the hints name is there.
func TestHintsNameFlagsThatThereAre(t *testing.T) {
	for command, list := range habits {
		c, _, err := newRoot(&target{}).Find([]string{command})
		assert.NoError(t, err)
		for _, h := range list {
			for flag, text := range h.flags {
				assert.Nil(t, c.Flags().Lookup(flag), "%s has --%s itself", command, flag)
				for _, word := range strings.Fields(text) {
					if name, long := strings.CutPrefix(strings.TrimSuffix(word, ","), "--"); long {
						assert.NotNil(t, c.Flags().Lookup(name), "%s: %s", command, text)
					}
				}
			}
		}
	}
}
