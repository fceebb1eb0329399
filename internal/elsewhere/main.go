// Command elsewhere type-checks and vets every package below the working directory, tests
// included, for other systems and processors.
//
//	elsewhere freebsd/arm64 windows/amd64
//
// It reads the sources of what they import, but not the bodies of functions there. go vet would
// first compile all that for each system, which takes twenty times the CPU.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/analysis"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: elsewhere GOOS/GOARCH...")
		os.Exit(2)
	}
	failed := false
	for _, target := range os.Args[1:] {
		n, err := check(".", target)
		if err != nil {
			fmt.Fprintf(os.Stderr, "elsewhere: %s: %v\n", target, err)
			failed = true
			continue
		}
		fmt.Printf("%s: %d packages and tests are right\n", target, n)
	}
	if failed {
		os.Exit(1)
	}
}

// check returns how many packages it has looked at, or everything that is wrong.
func check(dir, target string) (int, error) {
	system, processor, ok := strings.Cut(target, "/")
	if !ok {
		return 0, errors.New("want GOOS/GOARCH")
	}
	packages, err := list(dir, system, processor)
	if err != nil {
		return 0, err
	}
	c := checker{
		fset: token.NewFileSet(), sizes: types.SizesFor("gc", processor),
		packages: map[string]*goPackage{},
		checked:  map[string]*types.Package{"unsafe": types.Unsafe},
		facts:    map[factKey]analysis.Fact{},
	}
	n := 0
	for _, p := range packages {
		c.packages[p.ImportPath] = p
	}
	for _, p := range packages {
		if p.ours() {
			c.check(p)
			n++
		}
	}
	if n == 0 {
		return 0, errors.New("no packages")
	}
	return n, errors.Join(c.errs...)
}

// A goPackage is what the check needs of the answer of go list.
type goPackage struct {
	Dir, ImportPath   string
	GoFiles           []string
	ImportMap         map[string]string // what an import means where a test has its own variant
	DepOnly, Standard bool
	Error             *struct{ Err string }
	Module            *struct{ GoVersion string }
}

// ours says whether the working directory has the package. The main package of a test is generated.
func (p *goPackage) ours() bool { return !p.DepOnly && !strings.HasSuffix(p.ImportPath, ".test") }

func list(dir, system, processor string) (all []*goPackage, err error) {
	cmd := exec.Command("go", "list", "-e", "-deps", "-test",
		"-json=Dir,ImportPath,GoFiles,ImportMap,DepOnly,Standard,Error,Module", "./...")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+processor, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(goPackage)
		if err := d.Decode(p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if p.Error != nil {
			return nil, errors.New(p.Error.Err)
		}
		all = append(all, p)
	}
}

// A checker has the packages of one system and processor.
type checker struct {
	fset     *token.FileSet
	sizes    types.Sizes
	packages map[string]*goPackage
	checked  map[string]*types.Package
	facts    map[factKey]analysis.Fact
	errs     []error
}

func (c *checker) check(p *goPackage) *types.Package {
	if done, ok := c.checked[p.ImportPath]; ok {
		return done
	}
	conf := types.Config{
		Sizes: c.sizes, IgnoreFuncBodies: !p.ours(), FakeImportC: true,
		Importer: importer(func(path string) (*types.Package, error) {
			if mapped, ok := p.ImportMap[path]; ok {
				path = mapped
			}
			if path == "unsafe" {
				return types.Unsafe, nil
			}
			dep, ok := c.packages[path]
			if !ok {
				return nil, fmt.Errorf("go list does not know %s", path)
			}
			return c.check(dep), nil
		}),
		Error: func(err error) { c.errs = append(c.errs, err) },
	}
	if p.Module != nil && p.Module.GoVersion != "" {
		conf.GoVersion = "go" + p.Module.GoVersion
	}
	mode := parser.SkipObjectResolution
	if len(ofImports) > 0 {
		mode |= parser.ParseComments
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, name), nil, mode)
		if err != nil {
			c.errs = append(c.errs, err)
			continue
		}
		files = append(files, f)
	}
	path, _, _ := strings.Cut(p.ImportPath, " ")
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}}
	if p.ours() {
		info = &types.Info{
			Types: map[ast.Expr]types.TypeAndValue{}, Instances: map[*ast.Ident]types.Instance{},
			Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
			Implicits: map[ast.Node]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
			Scopes: map[ast.Node]*types.Scope{}, FileVersions: map[*ast.File]string{},
		}
	}
	pkg, err := conf.Check(path, c.fset, files, info) // Error has them all
	c.checked[p.ImportPath] = pkg
	switch {
	case err != nil:
	case p.ours():
		c.vet(analyzers, files, pkg, info, conf.GoVersion)
	default:
		c.vet(ofImports, files, pkg, info, conf.GoVersion)
	}
	return pkg
}

type importer func(path string) (*types.Package, error)

func (i importer) Import(path string) (*types.Package, error) { return i(path) }
