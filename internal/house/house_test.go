package house

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	root   = "../.."
	module = "github.com/zbuf-go/zbuf"
)

// A picture lists names from top to bottom, each with the names that its arrows lead to.
type picture struct {
	order  []string
	arrows map[string][]string
}

// drawn reads the first block of lines "name → names" below a heading of docs/design.md. A line
// without a name continues the one above. A line without an arrow is a caption.
func drawn(t *testing.T, heading string) picture {
	t.Helper()
	text := design(t)
	_, below, found := strings.Cut(text, "\n"+heading+"\n")
	require.True(t, found, "docs/design.md has no heading %q", heading)
	_, below, found = strings.Cut(below, "\n```\n")
	require.True(t, found, "docs/design.md has no picture below %q", heading)
	block, _, found := strings.Cut(below, "\n```\n")
	require.True(t, found, "docs/design.md: the picture below %q does not end", heading)
	p := picture{arrows: map[string][]string{}}
	for line := range strings.Lines(block) {
		name, to, ok := strings.Cut(line, "→")
		if !ok {
			continue
		}
		if name = strings.TrimSpace(name); name != "" {
			require.NotContains(t, p.order, name, "the picture has it twice")
			p.order = append(p.order, name)
		}
		require.NotEmpty(t, p.order, "the picture begins with a line that continues another")
		from := p.order[len(p.order)-1]
		p.arrows[from] = append(p.arrows[from], strings.Fields(to)...)
	}
	require.Greater(t, len(p.order), 3, "the picture below %q has no lines", heading)
	return p
}

func design(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "design.md"))
	require.NoError(t, err)
	return string(text)
}

// compare reports everything in which the picture differs from what the code has.
func (p picture) compare(code map[string][]string) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for i, from := range p.order {
		has, ok := code[from]
		if !ok {
			fault("%s is in the picture alone", from)
			continue
		}
		for _, to := range p.arrows[from] {
			if !slices.Contains(has, to) {
				fault("%s → %s is in the picture alone", from, to)
			}
		}
		for _, to := range has {
			if !slices.Contains(p.arrows[from], to) {
				fault("%s → %s is missing in the picture", from, to)
			}
			if at := slices.Index(p.order, to); at >= 0 && at <= i {
				fault("%s → %s points upwards", from, to)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if !slices.Contains(p.order, name) {
			fault("%s is missing in the picture: give it a line, above everything that it uses", name)
		}
	}
	return faults
}

// compare finds each way in which a picture can differ from the code.
func TestCompareFindsEveryDifference(t *testing.T) {
	code := map[string][]string{"a": {"b"}, "b": {"c"}, "c": nil}
	for name, c := range map[string]struct {
		order  string
		arrows map[string][]string
		want   string
	}{
		"a true picture":          {"a b c", code, ""},
		"a name too many":         {"a b c d", code, "d is in the picture alone"},
		"a name missing":          {"a b", map[string][]string{"a": {"b"}, "b": {"c"}}, "c is missing in the picture"},
		"an arrow too many":       {"a b c", map[string][]string{"a": {"b", "c"}, "b": {"c"}}, "a → c is in the picture alone"},
		"an arrow missing":        {"a b c", map[string][]string{"a": {"b"}}, "b → c is missing in the picture"},
		"an arrow that points up": {"b a c", code, "a → b points upwards"},
	} {
		t.Run(name, func(t *testing.T) {
			faults := picture{strings.Fields(c.order), c.arrows}.compare(code)
			if c.want == "" {
				assert.Empty(t, faults)
				return
			}
			require.Len(t, faults, 1)
			assert.Contains(t, faults[0], c.want)
		})
	}
}

// The packages of the module import what the picture shows, and only downwards.
func TestPackagesPicture(t *testing.T) {
	code := map[string][]string{}
	for _, system := range []string{"linux", "freebsd"} { // other files, other imports
		for _, p := range list(t, system, "./...") {
			name := short(p.ImportPath)
			imports := p.Imports
			if slices.Equal(p.GoFiles, []string{"doc.go"}) && len(p.Imports) == 0 { // a package of tests
				imports = slices.Concat(p.TestImports, p.XTestImports)
			}
			code[name] = append(code[name], ours(imports)...)
		}
	}
	for name, imports := range code {
		slices.Sort(imports)
		code[name] = slices.Compact(imports)
	}
	assert.Empty(t, drawn(t, "## Packages").compare(code))
}

// The files of bpf/ use what the picture shows, and only downwards.
func TestFilesOfBpfPicture(t *testing.T) {
	assert.Empty(t, drawn(t, "## Files of bpf").compare(uses(t, "bpf")))
}

// A goPackage is what this test needs of the answer of go list.
type goPackage struct {
	ImportPath, Dir, Export            string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

// list runs go list in the root of the module.
func list(t *testing.T, system string, args ...string) (all []goPackage) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("no go command here, which knows the packages: %v", err)
	}
	cmd := exec.Command("go", append([]string{"list",
		"-json=ImportPath,Dir,Export,GoFiles,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	var message bytes.Buffer
	cmd.Stderr = &message
	out, err := cmd.Output()
	require.NoError(t, err, "go list: %s", &message)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			require.NoError(t, err)
		}
		all = append(all, p)
	}
}

func ours(imports []string) (names []string) {
	for _, path := range imports {
		if path == module || strings.HasPrefix(path, module+"/") {
			names = append(names, short(path))
		}
	}
	return names
}

// short is a package's name in the picture.
func short(path string) string {
	if path == module {
		return "zbuf"
	}
	return strings.TrimPrefix(path, module+"/")
}

// uses returns, for each file of a package, the other files that declare what it uses. A method is
// declared where its body is, and a field where its struct is.
func uses(t *testing.T, dir string) map[string][]string {
	t.Helper()
	exports := map[string]string{}
	var pkg goPackage
	for _, p := range list(t, runtime.GOOS, "-export", "-deps", "./"+dir) {
		exports[p.ImportPath] = p.Export
		if p.ImportPath == module+"/"+dir {
			pkg = p
		}
	}
	require.NotEmpty(t, pkg.GoFiles)
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range pkg.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(pkg.Dir, name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc",
		func(path string) (io.ReadCloser, error) {
			return os.Open(exports[path])
		})}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	checked, err := conf.Check(pkg.ImportPath, fset, files, &info)
	require.NoError(t, err)
	file := func(at token.Pos) string { return anySystem(filepath.Base(fset.Position(at).Filename)) }
	used := map[string][]string{}
	for _, name := range pkg.GoFiles {
		used[anySystem(name)] = nil
	}
	for id, obj := range info.Uses {
		if obj.Pkg() != checked {
			continue
		}
		from, to := file(id.Pos()), file(obj.Pos())
		if from != to && !slices.Contains(used[from], to) {
			used[from] = append(used[from], to)
		}
	}
	return used
}

// anySystem is the picture's name for a file of which each system has its version.
func anySystem(file string) string {
	return regexp.MustCompile(`_(freebsd|other)\.go$`).ReplaceAllString(file, "_*.go")
}

// Every file, function, type, field and test that docs/design.md names exists.
func TestDesignNamesWhatExists(t *testing.T) {
	declared, files := map[string]bool{}, map[string]bool{}
	fset := token.NewFileSet()
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		files[filepath.ToSlash(rel)], files[d.Name()] = true, true
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				declared[n.Name.Name] = true
			case *ast.TypeSpec:
				declared[n.Name.Name] = true
			case *ast.ValueSpec:
				for _, name := range n.Names {
					declared[name.Name] = true
				}
			case *ast.Field: // of a struct or an interface, or a parameter
				for _, name := range n.Names {
					declared[name.Name] = true
				}
			}
			return true
		})
		return nil
	}))
	text := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(design(t), "")
	name := regexp.MustCompile(`^\w+(\.\w+)*$`)
	seen := 0
	for _, quoted := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
		what := quoted[1]
		switch {
		case strings.HasSuffix(what, ".go"):
			assert.True(t, files[what], "docs/design.md names the file %s, which is not there", what)
		case name.MatchString(what) && !foreign[what]:
			last := what[strings.LastIndex(what, ".")+1:]
			assert.True(t, declared[last], "docs/design.md names %s, which nothing declares", what)
		default:
			continue
		}
		seen++
	}
	assert.Greater(t, seen, 30, "the names in docs/design.md were not found")
}

// foreign are names in docs/design.md that the kernel's sources declare.
var foreign = map[string]bool{
	"kernel_gen": true, "kernel_len": true, "user_gen": true, "bh_hdrlen": true,
}
