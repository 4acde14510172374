package status

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

const (
	metricsPage = "../docs/metrics.md"
	dashboard   = "../deploy/grafana-dashboard.json"
)

func metricsOf(t *testing.T, n *Snapshot) string {
	t.Helper()
	s := start(t, Config{})
	s.Publish(n)
	w, body := get(t, s, "/metrics")
	if w.StatusCode != 200 {
		t.Fatalf("%d %s", w.StatusCode, body)
	}
	return body
}

func TestMetricsAreCleanForPrometheus(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(metricsOf(t, sample()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// metricsTable is the part of docs/metrics.md that the server's own words make.
func metricsTable(text string) string {
	kinds := map[string]string{}
	var rows strings.Builder
	rows.WriteString("| name | kind | meaning and unit | labels |\n|---|---|---|---|\n")
	for line := range strings.Lines(text) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 4)
		switch {
		case strings.HasPrefix(line, "# HELP "):
			kinds[words[2]] = words[3]
		case strings.HasPrefix(line, "# TYPE "):
			labels := regexp.MustCompile(`(?m)^` + words[2] + `\{([^}]*)\}`).FindStringSubmatch(text)
			var names []string
			if labels != nil {
				for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(labels[1], -1) {
					names = append(names, l[1])
				}
			}
			fmt.Fprintf(&rows, "| `%s` | %s | %s | %s |\n", words[2], words[3], kinds[words[2]], strings.Join(names, ", "))
		}
	}
	return rows.String()
}

func TestMetricsAreDocumented(t *testing.T) {
	want := metricsTable(metricsOf(t, sample()))
	b, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(b), "| name |")
	_, after, _ := strings.Cut(rest, "\n\n")
	page := before + want + "\n" + after
	if *update {
		if err := os.WriteFile(metricsPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if page != string(b) {
		t.Errorf("docs/metrics.md is not what the server says: go test ./status -run Metrics -update")
	}
}

// Every figure of the dashboard is one that the server gives.
func TestDashboardAsksForWhatThereIs(t *testing.T) {
	b, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title  string
		UID    string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	text := metricsOf(t, sample())
	asked := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`dunlin_\w+`).FindAllString(target.Expr, -1) {
				asked++
				if !strings.Contains(text, "# TYPE "+name+" ") {
					t.Errorf("panel %q asks for %s, which no peer gives", p.Title, name)
				}
			}
		}
	}
	if board.Title == "" || board.UID == "" || asked < 12 {
		t.Errorf("dashboard %q of %d questions", board.Title, asked)
	}
}
