package expression

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/filter"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// judge is the program for the packets of one interface.
type judge struct {
	vm    *filter.VM
	lines []string // the program, as people read it
}

// Why says for each packet of a capture file whether an expression matches it, and by which way
// through the program. It stops at the first interface that the expression makes no sense for.
func Why(w io.Writer, file io.Reader, text string, opt filter.Options) error {
	out := bufio.NewWriter(w)
	defer out.Flush()
	in, err := pcapio.NewReader(file)
	if err != nil {
		return err
	}
	var judges []judge
	for n := 1; ; n++ {
		p, err := in.Next()
		if err == io.EOF {
			return out.Flush()
		}
		if err != nil {
			return err
		}
		known := in.Interfaces()
		for len(judges) < len(known) {
			judges = append(judges, judge{})
		}
		j := &judges[p.Interface]
		if j.vm == nil {
			if *j, err = newJudge(known[p.Interface], text, opt); err != nil {
				return err
			}
			if err := j.introduce(out, known, p.Interface); err != nil {
				return err
			}
		}
		if err := j.explain(out, n, p); err != nil {
			return err
		}
	}
}

func newJudge(i pcapio.Interface, text string, opt filter.Options) (judge, error) {
	file := ForFile(i)
	file.SnapLen, file.Netmask, file.NoOptimize = opt.SnapLen, opt.Netmask, opt.NoOptimize
	prog, err := filter.Compile(text, file)
	if errors.Is(err, filter.ErrNoMatch) {
		prog, err = Nothing(), nil
	}
	if err != nil {
		return judge{}, err
	}
	vm, err := filter.NewVM(prog)
	lines := strings.Split(strings.TrimSuffix(filter.Disassemble(prog), "\n"), "\n")
	return judge{vm, lines}, err
}

// Nothing returns the program that no packet passes.
func Nothing() []bpf.RawInstruction { return []bpf.RawInstruction{{Op: 0x06}} } // ret #0

// introduce says which interface a program is for, and prints it.
func (j *judge) introduce(w io.Writer, known []pcapio.Interface, n int) error {
	i := known[n]
	_, err := fmt.Fprintf(w, "interface %d (%s), the program:\n  %s\n", n,
		zbuf.DLTName(zbuf.LinkTypeToDLT(i.LinkType)), strings.Join(j.lines, "\n  "))
	return err
}

// explain prints the verdict for a packet and the instructions that it has passed.
func (j *judge) explain(w io.Writer, n int, p pcapio.Packet) error {
	verdict, way := j.vm.Trace(p.Data, p.WireLen)
	said := "does not match"
	if verdict > 0 {
		said = "matches"
	}
	if _, err := fmt.Fprintf(w, "packet %d %s:\n", n, said); err != nil {
		return err
	}
	for i, s := range way {
		line := strings.Join(strings.Fields(j.lines[s.At]), " ")
		after := fmt.Sprintf("A=%#x X=%#x", s.A, s.X)
		if i == len(way)-1 {
			after = "the verdict"
			if !strings.Contains(line, " ret ") {
				after = "refused: no such byte was captured"
				if strings.Contains(line, " div ") || strings.Contains(line, " mod ") {
					after = "refused: a division by 0"
				}
			}
		}
		if _, err := fmt.Fprintf(w, "  %-44s %s\n", line, after); err != nil {
			return err
		}
	}
	return nil
}
