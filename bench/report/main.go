// Report makes the tables and plots of docs/performance.md from results in the Go benchmark format.
//
//	report -in out/bench -doc docs/performance.md -plots docs/performance -short README.md
//
// Report replaces the results between the document's markers that somebody measured anew. It keeps
// the others. People write the text around the markers. Report refuses input without results, and
// input of a run that failed or broke off. It writes nothing then.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	in := flag.String("in", "out/bench", "folder of the results, *.txt")
	doc := flag.String("doc", "docs/performance.md", "document to fill in")
	plots := flag.String("plots", "docs/performance", "folder for the plots")
	short := flag.String("short", "README.md", "document to fill the summary's numbers in")
	flag.Parse()
	if err := run(*in, *doc, *plots, *short); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(in, doc, plots, short string) error {
	files, err := filepath.Glob(filepath.Join(in, "*.txt"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no results in %s: run `make bench-vm`", in)
	}
	d, err := read(files)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	link, err := filepath.Rel(filepath.Dir(doc), plots)
	if err != nil {
		return err
	}
	pictures := map[string][]byte{}
	filled, err := fill(string(text), d, filepath.ToSlash(link), pictures)
	if err != nil {
		return fmt.Errorf("%s: %w", doc, err)
	}
	page, err := os.ReadFile(short)
	if err != nil {
		return err
	}
	numbers, err := fillShort(string(page), d)
	if err != nil {
		return fmt.Errorf("%s: %w", short, err)
	}
	if err := write(doc, filled, plots, pictures); err != nil {
		return err
	}
	return os.WriteFile(short, []byte(numbers), 0o644)
}

// write replaces the document and all plots.
func write(doc, text, plots string, pictures map[string][]byte) error {
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(plots, "*.svg"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if _, ok := pictures[filepath.Base(name)]; !ok {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	for name, svg := range pictures {
		if svg == nil {
			continue // it stays
		}
		if err := os.WriteFile(filepath.Join(plots, name), svg, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(doc, []byte(text), 0o644)
}
