package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Time       time.Time
	Action     string
	Package    string
	Test       string
	Elapsed    float64
	Output     string
	Key, Value string
}

// A run is one process of a package's tests that passed.
type run struct {
	pkg        string // as in suites
	day        string
	system     string
	parameters string
	tests      map[string]*test
	order      []string // the names in tests as they reported
	skipped    []string
	at         time.Time
	rules      []*ruled          // of the table in conformance/, in its order
	plays      map[string]*ruled // by the test that plays it on the kernel
}

// ruled is the result of a run for a rule of the table in conformance/.
type ruled struct {
	lab.Rule
	held    bool
	skipped string // why the test did not play it after all
	said    string // the last line of the test
}

// test has the figures that one test reported.
type test struct {
	figures map[lab.Figure]uint64
	elapsed time.Duration
	passed  bool
}

const module = "github.com/zbuf-go/zbuf"

var figures = []lab.Figure{lab.Cases, lab.Operations, lab.Packets, lab.Faults, lab.Lost}

// readRuns reads the output of go test -json. It refuses whatever is not a complete run without a
// failure.
func readRuns(in io.Reader) ([]*run, error) {
	var runs []*run
	open := map[string]*run{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("line %d is not of go test -json: %w", n, err)
		}
		r := open[e.Package]
		if e.Action == "start" {
			if r != nil {
				return nil, fmt.Errorf("line %d: %s starts twice", n, e.Package)
			}
			r = &run{pkg: strings.TrimPrefix(strings.TrimPrefix(e.Package, module), "/"),
				day: e.Time.UTC().Format(time.DateOnly), at: e.Time,
				tests: map[string]*test{}, plays: map[string]*ruled{}}
			open[e.Package] = r
			continue
		}
		if r == nil {
			return nil, fmt.Errorf("line %d: %s of %q, which has not started: %s", n, e.Action, e.Package,
				e.Output)
		}
		if rule := r.plays[e.Test]; rule != nil {
			rule.event(e)
		}
		var err error
		switch {
		case e.Action == "fail":
			err = fmt.Errorf("%s failed", strings.TrimSpace(e.Package+" "+e.Test))
		case e.Action == "attr":
			err = r.attribute(e)
		case e.Action == "skip" && e.Test != "":
			r.skipped = append(r.skipped, e.Test)
		case e.Action == "pass" && e.Test != "":
			if t := r.tests[e.Test]; t != nil {
				t.passed, t.elapsed = true, time.Duration(e.Elapsed*float64(time.Second))
			}
		case e.Action == "pass":
			err = r.complete()
			runs = append(runs, r)
			delete(open, e.Package)
		case e.Action == "skip":
			err = fmt.Errorf("%s has no tests", e.Package)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	for p := range open {
		return nil, fmt.Errorf("it ends before %s does", p)
	}
	if len(runs) == 0 {
		return nil, errors.New("no tests ran")
	}
	return runs, nil
}

// attribute takes down what lab.Report said.
func (r *run) attribute(e event) error {
	switch e.Key {
	case lab.System:
		if r.system != "" {
			return errors.New("two processes in one run")
		}
		r.system = e.Value
		return nil
	case lab.Parameters:
		r.parameters = e.Value
		return nil
	case lab.RuleKey:
		return r.rule(e)
	}
	f := lab.Figure(e.Key)
	known := false
	for _, k := range figures {
		known = known || f == k
	}
	if !known {
		return fmt.Errorf("%s reports %q, which is no figure", e.Test, e.Key)
	}
	n, err := strconv.ParseUint(e.Value, 10, 64)
	if err != nil {
		return fmt.Errorf("%s reports %s: %w", e.Test, e.Key, err)
	}
	t := r.tests[e.Test]
	if t == nil {
		t = &test{figures: map[lab.Figure]uint64{}}
		r.tests[e.Test] = t
		r.order = append(r.order, e.Test)
	}
	if _, twice := t.figures[f]; twice {
		return fmt.Errorf("%s reports %s twice", e.Test, f)
	}
	t.figures[f] = n
	return nil
}

// rule takes down what lab.ReportRule said.
func (r *run) rule(e event) error {
	var said lab.Rule
	if err := json.Unmarshal([]byte(e.Value), &said); err != nil {
		return fmt.Errorf("%s reports a rule: %w", e.Test, err)
	}
	i := slices.IndexFunc(r.rules, func(o *ruled) bool { return o.Name == said.Name })
	switch {
	case !said.Plays && i < 0:
		r.rules = append(r.rules, &ruled{Rule: said})
	case !said.Plays:
		return fmt.Errorf("two rules are named %s", said.Name)
	case i < 0:
		return fmt.Errorf("%s plays %q, which is no rule", e.Test, said.Name)
	default:
		r.rules[i].Rule = said
		r.plays[e.Test] = r.rules[i]
	}
	return nil
}

// event takes down what becomes of a test that plays a rule. Why it skips is the last that it says.
func (r *ruled) event(e event) {
	switch line := strings.TrimSpace(e.Output); e.Action {
	case "output":
		if m := said.FindStringSubmatch(line); m != nil {
			r.said = m[1]
		}
	case "skip":
		r.skipped = r.said
	case "pass":
		r.held = true
	}
}

var said = regexp.MustCompile(`^\w+\.go:\d+: (.*)$`)

// complete checks a run at its end.
func (r *run) complete() error {
	if len(r.tests) == 0 {
		return fmt.Errorf("%s has reported nothing", r.pkg)
	}
	if r.system == "" {
		return fmt.Errorf("%s has not said where it ran", r.pkg)
	}
	for name, t := range r.tests {
		if !t.passed {
			return fmt.Errorf("%s has figures, but has not passed", name)
		}
		if t.figures[lab.Lost] > 0 {
			return fmt.Errorf("%s lost %d and passed", name, t.figures[lab.Lost])
		}
	}
	return nil
}

// fuzzed is what one run of a fuzz target came to. It found nothing, else it would not be here.
type fuzzed struct {
	pkg, target       string
	took              time.Duration
	execs             uint64
	interesting, seen uint64
}

var (
	fuzzName     = regexp.MustCompile(`^(\w+)-(Fuzz\w+)\.log$`)
	fuzzProgress = regexp.MustCompile(
		`^fuzz: elapsed: (\S+), execs: (\d+) \(\d+/sec\)(?:, new interesting: (\d+) \(total: (\d+)\))?$`)
	fuzzOK = regexp.MustCompile(`^ok  \t(\S+)\t`)
)

// readFuzz reads the output of go test -fuzz. It refuses a run that found something or did not end.
func readFuzz(name string, log []byte) (*fuzzed, error) {
	m := fuzzName.FindStringSubmatch(name)
	if m == nil {
		return nil, errors.New("its name is not PACKAGE-TARGET.log")
	}
	f := &fuzzed{target: m[2]}
	lines := bytes.Split(bytes.TrimRight(log, "\n"), []byte("\n"))
	for _, line := range lines {
		s := string(line)
		if strings.HasPrefix(s, "--- FAIL") || strings.HasPrefix(s, "FAIL") ||
			strings.Contains(s, "Failing input written") {
			return nil, fmt.Errorf("it found something: %s", s)
		}
		p := fuzzProgress.FindStringSubmatch(s)
		if p == nil {
			continue
		}
		var errs [4]error
		f.took, errs[0] = time.ParseDuration(p[1])
		f.execs, errs[1] = strconv.ParseUint(p[2], 10, 64)
		if p[3] != "" {
			f.interesting, errs[2] = strconv.ParseUint(p[3], 10, 64)
			f.seen, errs[3] = strconv.ParseUint(p[4], 10, 64)
		}
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
	}
	ok := fuzzOK.FindStringSubmatch(string(lines[len(lines)-1]))
	if ok == nil {
		return nil, errors.New("it has not ended well")
	}
	if f.execs == 0 {
		return nil, errors.New("nothing was executed")
	}
	f.pkg = strings.TrimPrefix(ok[1], module+"/")
	if path.Base(ok[1]) != m[1] {
		return nil, fmt.Errorf("it is of %s", f.pkg)
	}
	return f, nil
}
