package vmtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sendFile is a file of the host that the guest gets under the same path.
type sendFile struct {
	path string
	info fs.FileInfo
}

// outputFlags are the flags of a test binary that name files it writes, and
// whether the name is that of a folder.
var outputFlags = map[string]bool{
	"test.blockprofile": false, "test.coverprofile": false, "test.cpuprofile": false,
	"test.memprofile": false, "test.mutexprofile": false, "test.trace": false,
	"test.testlogfile": false,
	"test.outputdir":   true, "test.gocoverdir": true, "test.fuzzcachedir": true,
}

// plan lists the files that go to the guest with a program, and the places for its results.
type plan struct {
	files  []sendFile
	dirs   []string
	places []place
}

// collect lists the paths of the places, for the agent.
func (p *plan) collect() (paths []string) {
	for _, pl := range p.places {
		paths = append(paths, pl.path)
	}
	return paths
}

// makePlan decides on the files: the program, the regular files of a test's folder, its testdata
// with all that is below, the paths in copies, and the places its flags and environment name for
// output.
func makePlan(
	program string, isTest bool, args, env []string, dir string, copies []string, limit int64,
) (*plan, error) {
	p := &plan{places: []place{{path: filepath.Clean(dir), folder: true}}}
	if err := p.addFile(program); err != nil {
		return nil, err
	}
	if isTest {
		if err := p.addFolder(dir); err != nil {
			return nil, err
		}
		copies = append(copies, filepath.Join(dir, "testdata"))
	}
	for _, c := range copies {
		if !filepath.IsAbs(c) {
			c = filepath.Join(dir, c)
		}
		if err := p.addTree(c, c == filepath.Join(dir, "testdata")); err != nil {
			return nil, err
		}
	}
	if err := p.addOutputs(args, env, dir); err != nil {
		return nil, err
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if (name == "TMPDIR" || name == "HOME") && filepath.IsAbs(value) {
			p.dirs = append(p.dirs, value)
		}
	}
	return p, p.checkSize(dir, limit)
}

// addOutputs prepares the places that the program is told to write to.
func (p *plan) addOutputs(args, env []string, dir string) error {
	add := func(path string, folder bool) error {
		if path == "" {
			return nil
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		path = filepath.Clean(path)
		p.places = append(p.places, place{path, folder})
		if !folder {
			p.dirs = append(p.dirs, filepath.Dir(path))
			return nil
		}
		p.dirs = append(p.dirs, path)
		return p.addTree(path, true) // a fuzz corpus or older coverage is there to be read
	}
	for i, a := range args {
		name, value, ok := strings.Cut(strings.TrimLeft(a, "-"), "=")
		folder, known := outputFlags[name]
		if !known || !strings.HasPrefix(a, "-") {
			continue
		}
		if !ok && i+1 < len(args) {
			value = args[i+1]
		}
		if err := add(value, folder); err != nil {
			return err
		}
	}
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "GOCOVERDIR="); ok {
			if err := add(value, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *plan) addFile(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	p.files = append(p.files, sendFile{path, fi})
	return nil
}

// addFolder adds the regular files that lie directly in dir.
func (p *plan) addFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		// A link counts as the file that it points at. A link that points nowhere, a socket or a device
		// does not go to the guest.
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
			p.files = append(p.files, sendFile{path, fi})
		}
	}
	return nil
}

// addTree adds everything at and below root.
func (p *plan) addTree(root string, optional bool) error {
	if _, err := os.Stat(root); err != nil {
		if optional {
			return nil
		}
		return fmt.Errorf("file for the guest: %w", err)
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			p.dirs = append(p.dirs, path)
			return nil
		}
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
			p.files = append(p.files, sendFile{path, fi})
		}
		return nil
	})
}

// checkSize refuses files that would fill the guest's memory. It names the largest files, because
// most often they are not meant to go to the guest.
func (p *plan) checkSize(dir string, limit int64) error {
	files := slices.Clone(p.files[1:])
	var sum int64
	for _, f := range files {
		sum += f.info.Size()
	}
	if sum <= limit {
		return nil
	}
	slices.SortFunc(files, func(a, b sendFile) int {
		return int(b.info.Size()>>10 - a.info.Size()>>10)
	})
	return fmt.Errorf("the files of %s are %d MiB, more than the %d MiB that may go to the guest "+
		"(the largest is %s; raise --files-limit and --mem, or move it away)",
		dir, sum>>20, limit>>20, files[0].path)
}

// place is where a program may leave files: one file, or a folder and all below.
type place struct {
	path   string // absolute and clean
	folder bool
}
