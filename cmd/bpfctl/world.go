package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// world is what all commands share: the machine that they work on.
type world struct {
	scenario string                  // --model; empty is the machine this runs on
	host     func() *machine.Machine // replaces that machine, if not nil
}

func (w *world) machine() (*machine.Machine, error) {
	switch {
	case w.scenario != "" && !slices.Contains(scenario.Names(), w.scenario):
		_, err := scenario.New(w.scenario)
		return nil, usageError{err}
	case w.scenario != "":
		return scenario.New(w.scenario)
	case w.host != nil:
		return w.host(), nil
	}
	return machine.Host(), nil
}

// completeInterface completes -i.
func (w *world) completeInterface(
	*cobra.Command, []string, string,
) ([]string, cobra.ShellCompDirective) {
	var names []string
	if m, err := w.machine(); err == nil {
		defer m.Stop()
		list, _ := m.Interfaces()
		for _, i := range list {
			names = append(names, i.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
