package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
)

// The commands that cobra makes are its own.
func TestEveryCommandHasHelp(t *testing.T) {
	n := 0
	for _, c := range newRoot(&target{}).Commands() {
		if c.Name() == "completion" || c.Name() == "help" {
			continue
		}
		n++
		t.Run(c.Name(), func(t *testing.T) {
			assert.Contains(t, c.Example, "bpfctl "+c.Name()+" ")
			for line := range strings.Lines(c.Long + "\n" + c.Example) {
				assert.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\n"))), 80, "%s", line)
			}
			for line := range strings.Lines(c.Example) {
				checkExample(t, strings.Fields(line))
			}
		})
	}
	assert.Equal(t, 9, n)
}

// checkExample checks that the flags of an example exist and are well-formed, and that it runs the
// command it is for.
func checkExample(t *testing.T, words []string) {
	t.Helper()
	for i, w := range words {
		if w == "|" || strings.HasPrefix(w, ">") {
			words = words[:i]
			break
		}
	}
	root := newRoot(&target{})
	c, rest, err := root.Find(words[1:])
	if assert.NoError(t, err) {
		var run []*cobra.Command
		c.RunE = func(c *cobra.Command, args []string) error { run = append(run, c); return nil }
		root.SetArgs(append([]string{words[1]}, rest...))
		assert.NoError(t, root.Execute(), "%v", words)
		assert.Len(t, run, 1)
	}
}
