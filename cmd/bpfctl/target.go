package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// target is the machine that all commands work on.
type target struct {
	scenario string                  // --model; empty is the machine this runs on
	host     func() *machine.Machine // replaces that machine, if not nil
	enter    func() error            // makes the process enter capability mode, for good; may be nil
}

func (t *target) machine() (*machine.Machine, error) {
	switch {
	case t.scenario != "" && !slices.Contains(scenario.Names(), t.scenario):
		_, err := scenario.New(t.scenario)
		return nil, usageError{err}
	case t.scenario != "":
		return scenario.New(t.scenario)
	case t.host != nil:
		return t.host(), nil
	}
	return machine.Host(), nil
}

// completeInterface completes -i.
func (t *target) completeInterface(
	*cobra.Command, []string, string,
) ([]string, cobra.ShellCompDirective) {
	var names []string
	if m, err := t.machine(); err == nil {
		defer m.Stop()
		list, _ := m.Interfaces()
		for _, i := range list {
			names = append(names, i.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
