//go:build staticcheck

package main

import (
	"slices"

	"honnef.co/go/tools/analysis/facts/deprecated"
	"honnef.co/go/tools/simple"
	"honnef.co/go/tools/staticcheck"
	"honnef.co/go/tools/stylecheck"
)

// With the tag staticcheck, the command runs staticcheck's analyzers too. The command staticcheck
// itself first looks into the functions of everything that is imported, the standard library
// included. That takes far more CPU, and finds a little more.
func init() {
	ofImports = append(ofImports, deprecated.Analyzer)
	for _, a := range slices.Concat(simple.Analyzers, staticcheck.Analyzers, stylecheck.Analyzers) {
		if !a.Doc.NonDefault {
			analyzers = append(analyzers, a.Analyzer)
		}
	}
}
