package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// FuzzReadRuns: a run that is taken has figures, and no failure in it.
func FuzzReadRuns(f *testing.F) {
	f.Add([]byte(stream("bpf", onKernel...)), "fail")
	f.Add([]byte(stream("conformance", onModel...)), "pass")
	f.Fuzz(func(t *testing.T, log []byte, name string) {
		runs, err := readRuns(bytes.NewReader(log))
		if err == nil {
			require.NotEmpty(t, runs)
			for line := range bytes.Lines(log) {
				var e event
				require.NoError(t, json.Unmarshal(line, &e))
				require.NotEqual(t, "fail", e.Action)
			}
		}
		for _, r := range runs {
			require.NotEmpty(t, r.tests)
			for _, test := range r.tests {
				require.True(t, test.passed)
				require.Zero(t, test.figures[lab.Lost])
			}
		}
		if fz, err := readFuzz(name, log); err == nil {
			require.NotZero(t, fz.execs)
		}
	})
}
