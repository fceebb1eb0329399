package exporter

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const docs = "../../docs/prometheus"

// document reads a file of docs/prometheus.
func document(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(docs, name))
	if os.IsNotExist(err) {
		if _, err := os.Stat("../../go.mod"); err != nil {
			t.Skipf("the documents are where the source is, not here: %v", err)
		}
	}
	require.NoError(t, err)
	return b
}

// names returns the names of all metrics.
func names(t *testing.T) map[string]bool {
	l := &list{}
	l.set(listener("ids", 7, "em0", 1, 1, 1))
	all := map[string]bool{}
	for key := range look(t, New(Config{Listeners: l.get})) {
		name, _, _ := strings.Cut(key, "{")
		all[name] = true
	}
	require.Len(t, all, 8)
	return all
}

var (
	metricNames = regexp.MustCompile(`\bbpf_\w+`)
	selectors   = regexp.MustCompile(`\{([^}]*)\}`)
	matchers    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
)

// requireExpression checks that a PromQL expression uses metrics and labels that there are.
func requireExpression(t *testing.T, known map[string]bool, expr string) {
	t.Helper()
	used := metricNames.FindAllString(expr, -1)
	require.NotEmpty(t, used, expr)
	for _, name := range used {
		require.True(t, known[name], "%s in %s", name, expr)
		counter := strings.HasSuffix(name, "_total")
		rate := regexp.MustCompile(`(rate|increase)\(` + name).MatchString(expr)
		require.Equal(t, counter, rate, "a rate is for counters: %s", expr)
	}
	for _, s := range selectors.FindAllStringSubmatch(expr, -1) {
		for _, m := range matchers.FindAllStringSubmatch(s[1], -1) {
			require.Contains(t, []string{"instance", "job", "program", "interface"}, m[1], expr)
		}
	}
	require.Equal(t, strings.Count(expr, "("), strings.Count(expr, ")"), expr)
	require.Equal(t, strings.Count(expr, "{"), strings.Count(expr, "}"), expr)
}

// The dashboard shows each metric, and no other.
func TestDashboardShowsTheMetrics(t *testing.T) {
	var board struct {
		Title, UID string
		Templating struct {
			List []struct{ Name, Query string }
		}
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	require.NoError(t, json.Unmarshal(document(t, "dashboard.json"), &board))
	require.NotEmpty(t, board.Title)
	known, shown := names(t), map[string]bool{}
	variables := []string{"$__rate_interval", "$__all"}
	for _, v := range board.Templating.List {
		variables = append(variables, "$"+v.Name)
		for _, name := range metricNames.FindAllString(v.Query, -1) {
			require.True(t, known[name], v.Query)
		}
	}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		require.False(t, ids[p.ID], "panel %d is there twice", p.ID)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			requireExpression(t, known, target.Expr)
			for _, name := range metricNames.FindAllString(target.Expr, -1) {
				shown[name] = true
			}
			for _, v := range regexp.MustCompile(`\$\w+`).FindAllString(target.Expr, -1) {
				require.Contains(t, variables, v, target.Expr)
			}
		}
	}
	assert.Equal(t, known, shown)
}

func TestAlertsUseTheMetrics(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(document(t, "alerts.yml"), &file))
	var alerts []string
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			alerts = append(alerts, r.Alert)
			requireExpression(t, names(t), r.Expr)
			assert.NotEmpty(t, r.For)
			assert.NotEmpty(t, r.Labels["severity"])
			for _, text := range r.Annotations {
				for _, label := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
					assert.Contains(t, []string{"program", "interface"}, label[1])
				}
			}
			assert.Len(t, r.Annotations, 2)
		}
	}
	assert.Equal(t, []string{"BpfDrops", "BpfListenerStuck"}, alerts)
	for _, name := range metricNames.FindAllString(string(document(t, "alerts_test.yml")), -1) {
		assert.True(t, names(t)[name], name)
	}
}

// Prometheus's own tool says when the alerts fire.
func TestAlertsFireAsPromtoolSays(t *testing.T) {
	document(t, "alerts_test.yml")
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skipf("promtool of Prometheus checks and runs the alert rules: %v", err)
	}
	for verb, file := range map[string]string{"check": "alerts.yml", "test": "alerts_test.yml"} {
		c := exec.Command(tool, verb, "rules", file)
		c.Dir = docs
		out, err := c.CombinedOutput()
		assert.NoError(t, err, "%s", out)
	}
}
