package main

import (
	"os"
	"regexp"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// literal matches the indentation by which help marks lines that keep their ends. A manual page
// needs two columns more.
var literal = regexp.MustCompile(`(?m)^  `)

// newMan returns the command that writes the manual. Packagers call it.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:     "man FOLDER",
		Short:   "Write the manual pages of all commands into a folder",
		Example: "  bpfctl man /usr/local/share/man/man8",
		Hidden:  true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("which folder? see %s --help", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true
			for _, c := range append(root.Commands(), root) {
				c.Long = literal.ReplaceAllString(c.Long, "    ")
			}
			return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "zbuf", Manual: "bpfctl"},
				args[0])
		},
	}
}
