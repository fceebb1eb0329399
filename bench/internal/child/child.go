// Package child runs a part of a measurement in a separate process. The process runs the same
// program. Its environment says what to do.
package child

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// Command returns a command that starts the child. The child does what spec says. The variable
// tells one kind of child from another.
func Command(variable string, spec any) (*exec.Cmd, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+string(text))
	return cmd, nil
}

// Main belongs at the beginning of the program. In a child of that kind it calls do and exits.
// Otherwise it returns.
func Main[Spec any](variable string, do func(Spec) error) {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return
	}
	var spec Spec
	err := json.Unmarshal([]byte(text), &spec)
	if err == nil {
		err = do(spec)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", variable, err)
		os.Exit(1)
	}
	os.Exit(0)
}
