package main

import (
	"fmt"
	"go/ast"
	"go/types"
	"iter"
	"os"
	"reflect"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/appends"
	"golang.org/x/tools/go/analysis/passes/assign"
	"golang.org/x/tools/go/analysis/passes/atomic"
	"golang.org/x/tools/go/analysis/passes/bools"
	"golang.org/x/tools/go/analysis/passes/composite"
	"golang.org/x/tools/go/analysis/passes/copylock"
	"golang.org/x/tools/go/analysis/passes/defers"
	"golang.org/x/tools/go/analysis/passes/errorsas"
	"golang.org/x/tools/go/analysis/passes/ifaceassert"
	"golang.org/x/tools/go/analysis/passes/loopclosure"
	"golang.org/x/tools/go/analysis/passes/nilfunc"
	"golang.org/x/tools/go/analysis/passes/printf"
	"golang.org/x/tools/go/analysis/passes/shift"
	"golang.org/x/tools/go/analysis/passes/sigchanyzer"
	"golang.org/x/tools/go/analysis/passes/stdmethods"
	"golang.org/x/tools/go/analysis/passes/stringintconv"
	"golang.org/x/tools/go/analysis/passes/structtag"
	"golang.org/x/tools/go/analysis/passes/tests"
	"golang.org/x/tools/go/analysis/passes/timeformat"
	"golang.org/x/tools/go/analysis/passes/unmarshal"
	"golang.org/x/tools/go/analysis/passes/unreachable"
	"golang.org/x/tools/go/analysis/passes/unsafeptr"
	"golang.org/x/tools/go/analysis/passes/unusedresult"
)

// analyzers are those of go vet, but for those that have to look into functions of other modules,
// or at files that are not Go.
var analyzers = []*analysis.Analyzer{
	appends.Analyzer,
	assign.Analyzer,
	atomic.Analyzer,
	bools.Analyzer,
	composite.Analyzer,
	copylock.Analyzer,
	defers.Analyzer,
	errorsas.Analyzer,
	ifaceassert.Analyzer,
	loopclosure.Analyzer,
	nilfunc.Analyzer,
	printf.Analyzer,
	shift.Analyzer,
	sigchanyzer.Analyzer,
	stdmethods.Analyzer,
	stringintconv.Analyzer,
	structtag.Analyzer,
	tests.Analyzer,
	timeformat.Analyzer,
	unmarshal.Analyzer,
	unreachable.Analyzer,
	unsafeptr.Analyzer,
	unusedresult.Analyzer,
}

// ofImports are analyzers that look at the declarations of imported packages too.
var ofImports []*analysis.Analyzer

// A factKey names what an analyzer knows of an object or, if object is nil, of a package.
type factKey struct {
	pkg    *types.Package
	object types.Object
	fact   reflect.Type
}

// vet runs analyzers on a package, and keeps the facts that they find for the packages that import
// it.
func (c *checker) vet(
	with []*analysis.Analyzer, files []*ast.File, pkg *types.Package, info *types.Info, version string,
) {
	results := map[*analysis.Analyzer]any{}
	var run func(a *analysis.Analyzer) any
	run = func(a *analysis.Analyzer) any {
		if done, ok := results[a]; ok {
			return done
		}
		pass := &analysis.Pass{
			Analyzer: a, Fset: c.fset, Files: files, Pkg: pkg, TypesInfo: info, TypesSizes: c.sizes,
			Module:   &analysis.Module{GoVersion: version},
			ResultOf: map[*analysis.Analyzer]any{}, ReadFile: os.ReadFile,
			Report: func(d analysis.Diagnostic) {
				c.errs = append(c.errs, fmt.Errorf("%s: %s (%s)", c.fset.Position(d.Pos), d.Message, a.Name))
			},
			ImportObjectFact: func(o types.Object, f analysis.Fact) bool { return c.know(nil, o, f) },
			ExportObjectFact: func(o types.Object, f analysis.Fact) {
				c.facts[factKey{nil, o, reflect.TypeOf(f)}] = f
			},
			ImportPackageFact: func(p *types.Package, f analysis.Fact) bool { return c.know(p, nil, f) },
			ExportPackageFact: func(f analysis.Fact) {
				c.facts[factKey{pkg, nil, reflect.TypeOf(f)}] = f
			},
			AllObjectFacts: func() (all []analysis.ObjectFact) {
				for k, f := range c.factsOf(a) {
					if k.object != nil {
						all = append(all, analysis.ObjectFact{Object: k.object, Fact: f})
					}
				}
				return all
			},
			AllPackageFacts: func() (all []analysis.PackageFact) {
				for k, f := range c.factsOf(a) {
					if k.pkg != nil {
						all = append(all, analysis.PackageFact{Package: k.pkg, Fact: f})
					}
				}
				return all
			},
		}
		for _, needed := range a.Requires {
			pass.ResultOf[needed] = run(needed)
		}
		result, err := a.Run(pass)
		if err != nil {
			c.errs = append(c.errs, fmt.Errorf("%s: %s: %w", pkg.Path(), a.Name, err))
		}
		results[a] = result
		return result
	}
	for _, a := range with {
		run(a)
	}
}

// factsOf returns the facts that an analyzer has found in all packages.
func (c *checker) factsOf(a *analysis.Analyzer) iter.Seq2[factKey, analysis.Fact] {
	return func(yield func(factKey, analysis.Fact) bool) {
		for k, f := range c.facts {
			isOne := func(of analysis.Fact) bool { return reflect.TypeOf(of) == k.fact }
			if slices.ContainsFunc(a.FactTypes, isOne) && !yield(k, f) {
				return
			}
		}
	}
}

// know copies a fact into f if there is one.
func (c *checker) know(pkg *types.Package, object types.Object, f analysis.Fact) bool {
	known, ok := c.facts[factKey{pkg, object, reflect.TypeOf(f)}]
	if ok {
		reflect.ValueOf(f).Elem().Set(reflect.ValueOf(known).Elem())
	}
	return ok
}
