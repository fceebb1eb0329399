// Command reliability keeps the output of long test runs, and makes docs/reliability.md and
// docs/kernels.md of it.
//
//	reliability record FILE COMMAND…   run a command, keep what it prints in FILE, and show it
//	reliability page FOLDER OLD        print the page made of the runs in FOLDER, and of the rows of
//	                                   the page OLD that they do not replace
//	reliability matrix RULES FOLDER PAGE README
//	                                   put the runs in FOLDER of the rules whose source is in
//	                                   RULES into PAGE, and the kernels of PAGE into README
//
// Runs of go test -json are named *.json. Runs of go test -fuzz are named PACKAGE-TARGET.log, with
// the last element of the package's path.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) > 2 && args[0] == "record":
		err = record(args[1], args[2:], os.Stdout)
	case len(args) == 3 && args[0] == "page":
		var page, old []byte
		if old, err = os.ReadFile(args[2]); err != nil {
			break
		}
		if page, err = makePage(os.DirFS(args[1]), old); err == nil {
			_, err = os.Stdout.Write(page)
		}
	case len(args) == 5 && args[0] == "matrix":
		err = matrix(args[1], os.DirFS(args[2]), args[3], args[4])
	default:
		err = errors.New("usage: reliability record FILE COMMAND…, reliability page FOLDER OLD, " +
			"or reliability matrix RULES FOLDER PAGE README")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		os.Exit(1)
	}
}

// matrix brings the page of the matrix up to date, and the block of README.md that follows from it.
func matrix(table string, dir fs.FS, page, readme string) error {
	rules, err := rulesOf(table)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(page)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, summary, err := makeMatrix(rules, dir, old)
	if err != nil {
		return err
	}
	doc, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	if doc, err = fillIn(doc, summary); err != nil {
		return fmt.Errorf("%s: %w", readme, err)
	}
	return errors.Join(os.WriteFile(page, text, 0o666), os.WriteFile(readme, doc, 0o666))
}

// record runs a command. What it prints goes into the file, and to show as one reads it.
func record(file string, command []string, show io.Writer) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var werr error
	for r := bufio.NewReader(out); ; {
		line, err := r.ReadBytes('\n')
		if _, werr2 := f.Write(line); werr2 != nil {
			werr = werr2 // and go on: the command must not hang
		}
		if _, err := io.Writer.Write(show, readable(line)); err != nil {
			werr = err
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%v: %w", command, err)
	}
	return werr
}

// readable returns the text of a line of go test -json. It returns any other line unchanged.
func readable(line []byte) []byte {
	var e event
	if !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil {
		return line
	}
	return []byte(e.Output)
}
