package status

import (
	"encoding/json"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "abcdefghijklmnopqrstuvwxyz"

// start serves on loopback until the test ends.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// get asks without keeping connections.
func get(t *testing.T, s *Server, path string, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	address, _, _ := strings.Cut(s.URL(), "?")
	r, err := http.NewRequest(http.MethodGet, strings.TrimSuffix(address, "/")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	for _, c := range change {
		c(r)
	}
	w, err := direct().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	body, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w, string(body)
}

// direct asks without a proxy that the environment may name.
func direct() *http.Client { return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} }

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func TestEndpoints(t *testing.T) {
	s := start(t, Config{})
	for path, want := range map[string]int{"/": 200, "/api/v1/snapshot": 503, "/metrics": 503, "/healthz": 503, "/nothing": 404, "/web/index.html": 404, "/index.html": 404} {
		if w, body := get(t, s, path); w.StatusCode != want {
			t.Errorf("before the first snapshot %s answers %d, want %d: %s", path, w.StatusCode, want, body)
		}
	}
	s.Publish(sample())
	for path, want := range map[string][2]string{
		"/":                         {"text/html; charset=utf-8", "<title>dunlin</title>"},
		"/app.js":                   {"text/javascript; charset=utf-8", "import"},
		"/style.css":                {"text/css; charset=utf-8", "--accent"},
		"/favicon.svg":              {"image/svg+xml", "<svg"},
		"/vendor/uPlot-LICENSE.txt": {"text/plain; charset=utf-8", "MIT License"},
		"/api/v1/snapshot":          {"application/json", `"name":"Go tutor"`},
		"/metrics":                  {"text/plain; version=0.0.4; charset=utf-8", "dunlin_loss_train 2.61\n"},
		"/healthz":                  {"text/plain; charset=utf-8", "ok\n"},
	} {
		w, body := get(t, s, path)
		if w.StatusCode != 200 || w.Header.Get("Content-Type") != want[0] || !strings.Contains(body, want[1]) {
			t.Errorf("%s answers %d %q, want %q with %q", path, w.StatusCode, w.Header.Get("Content-Type"), want[0], want[1])
		}
		for name, value := range map[string]string{
			"Content-Security-Policy": contentPolicy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
		} {
			if w.Header.Get(name) != value {
				t.Errorf("%s sends %s %q, want %q", path, name, w.Header.Get(name), value)
			}
		}
		if len(w.Cookies()) > 0 || w.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s sets a cookie or opens itself to other sites", path)
		}
	}
}

func TestSnapshotIsTheSame(t *testing.T) {
	s := start(t, Config{})
	want := sample()
	s.Publish(want)
	w, body := get(t, s, "/api/v1/snapshot")
	var got Snapshot
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Peers, want.Peers) {
		t.Errorf("peers came back as\n%+v\nwant\n%+v", got.Peers, want.Peers)
	}
	if *got.Learning.Train != *want.Learning.Train || got.Run.StateHash != want.Run.StateHash || len(got.Rounds) != len(want.Rounds) {
		t.Errorf("came back as %+v", got)
	}
	tag := w.Header.Get("ETag")
	if w, _ := get(t, s, "/api/v1/snapshot", header("If-None-Match", tag)); w.StatusCode != http.StatusNotModified {
		t.Errorf("the same snapshot asked again: %d, want 304", w.StatusCode)
	}
	next := sample()
	next.Run.Height++
	s.Publish(next)
	if w, _ := get(t, s, "/api/v1/snapshot", header("If-None-Match", tag)); w.StatusCode != http.StatusOK {
		t.Errorf("another snapshot: %d, want 200", w.StatusCode)
	}
}

func TestBrokenFigureDoesNotBlindThePage(t *testing.T) {
	s := start(t, Config{})
	n := sample()
	n.Peers[0].Loss = math.NaN()
	n.Peers[1].TokensPerSecond = math.Inf(1)
	n.Learning.Train = value(math.NaN())
	n.Learning.Curve[1].Loss = math.Inf(-1)
	n.Rounds[0].Held = value(math.NaN())
	n.Cost.BytesRatio = value(math.Inf(1))
	n.Speed.History[0].Rate = math.NaN()
	s.Publish(n)
	w, body := get(t, s, "/api/v1/snapshot")
	var got Snapshot
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%d %v: %s", w.StatusCode, err, body)
	}
	if got.Learning.Train != nil || got.Cost.BytesRatio != nil || len(got.Learning.Curve) != 2 || len(got.Rounds) != 2 || len(got.Speed.History) != 1 {
		t.Errorf("a figure that is no number is not known: got %+v", got)
	}
	if !math.IsNaN(n.Peers[0].Loss) || len(n.Learning.Curve) != 3 {
		t.Error("the published snapshot was changed")
	}
}

func TestMethods(t *testing.T) {
	s := start(t, Config{})
	s.Publish(sample())
	for _, path := range []string{"/", "/api/v1/snapshot", "/api/v1/events", "/metrics", "/healthz"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			if w, _ := get(t, s, path, func(r *http.Request) { r.Method = method }); w.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s answers %d, want 405", method, path, w.StatusCode)
			}
		}
		if w, body := get(t, s, path, func(r *http.Request) { r.Method = http.MethodHead }); w.StatusCode != 200 || body != "" {
			t.Errorf("HEAD %s answers %d %q", path, w.StatusCode, body)
		}
	}
}

func TestHostMustNameThisMachine(t *testing.T) {
	s := start(t, Config{})
	s.Publish(sample())
	for host, want := range map[string]int{
		"127.0.0.1:7310": 200, "127.0.0.1": 200, "localhost:7310": 200, "LocalHost": 200, "[::1]:7310": 200, "[::1]": 200, "127.9.9.9:1": 200,
		"evil.example": 421, "evil.example:7310": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421, "192.168.1.5:7310": 421, "0.0.0.0:7310": 421,
	} {
		for _, path := range []string{"/", "/api/v1/snapshot", "/healthz"} {
			if w, _ := get(t, s, path, func(r *http.Request) { r.Host = host }); w.StatusCode != want {
				t.Errorf("Host %q at %s: %d, want %d", host, path, w.StatusCode, want)
			}
		}
	}
}

func TestOtherSitesMayNotAsk(t *testing.T) {
	s := start(t, Config{})
	s.Publish(sample())
	for _, c := range []struct {
		site, mode, path string
		want             int
	}{
		{"cross-site", "no-cors", "/api/v1/events", 403},
		{"same-site", "cors", "/api/v1/snapshot", 403},
		{"cross-site", "navigate", "/api/v1/snapshot", 403},
		{"cross-site", "no-cors", "/app.js", 403},
		{"cross-site", "navigate", "/", 200},
		{"same-origin", "cors", "/api/v1/snapshot", 200},
		{"none", "navigate", "/api/v1/snapshot", 200},
	} {
		if w, _ := get(t, s, c.path, header("Sec-Fetch-Site", c.site), header("Sec-Fetch-Mode", c.mode)); w.StatusCode != c.want {
			t.Errorf("%s %s of %s: %d, want %d", c.site, c.mode, c.path, w.StatusCode, c.want)
		}
	}
}

func TestTokenGuardsFigures(t *testing.T) {
	s := start(t, Config{Listen: "127.0.0.1:0", Token: token})
	s.Publish(sample())
	if !strings.HasSuffix(s.URL(), "/?token="+token) {
		t.Errorf("URL %s does not carry the token", s.URL())
	}
	for _, path := range []string{"/api/v1/snapshot", "/api/v1/events", "/metrics"} {
		for name, change := range map[string]func(*http.Request){
			"none":         func(*http.Request) {},
			"wrong header": header("Authorization", "Bearer "+token[1:]+"x"),
			"longer":       header("Authorization", "Bearer "+token+"a"),
			"empty":        header("Authorization", "Bearer "),
			"basic":        header("Authorization", "Basic "+token),
			"wrong query":  func(r *http.Request) { r.URL.RawQuery = "token=x" },
		} {
			if w, body := get(t, s, path, change); w.StatusCode != 401 || strings.Contains(body, "tutor") {
				t.Errorf("%s, token %s: %d %s", path, name, w.StatusCode, body)
			}
		}
	}
	for name, change := range map[string]func(*http.Request){
		"header": header("Authorization", "Bearer "+token),
		"query":  func(r *http.Request) { r.URL.RawQuery = "token=" + token },
	} {
		if w, _ := get(t, s, "/api/v1/snapshot", change); w.StatusCode != 200 {
			t.Errorf("right token in the %s: %d", name, w.StatusCode)
		}
	}
	if w, _ := get(t, s, "/"); w.StatusCode != 200 {
		t.Errorf("the page itself, which shows nothing without a token: %d", w.StatusCode)
	}
}

func TestOpenAddressWorksByAnyName(t *testing.T) {
	s := start(t, Config{Listen: "0.0.0.0:0", Token: token})
	s.Publish(sample())
	if w, _ := get(t, s, "/api/v1/snapshot", header("Authorization", "Bearer "+token), func(r *http.Request) { r.Host = "lab.example:7310" }); w.StatusCode != 200 {
		t.Errorf("got %d", w.StatusCode)
	}
	if strings.Contains(s.URL(), "0.0.0.0") {
		t.Errorf("nobody can open %s", s.URL())
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string // part of the error; "" when it is right
	}{
		{Config{}, ""},
		{Config{Listen: "127.0.0.1:7310"}, ""},
		{Config{Listen: "[::1]:0"}, ""},
		{Config{Listen: "localhost:0"}, ""},
		{Config{Listen: "0.0.0.0:0", Token: token}, ""},
		{Config{Listen: "0.0.0.0:0"}, "needs a token"},
		{Config{Listen: ":7310"}, "needs a token"},
		{Config{Listen: "lab.example:7310"}, "needs a token"},
		{Config{Listen: "192.168.1.5:7310", Token: "short"}, "at least 16"},
		{Config{Token: "a token with spaces in it"}, "characters"},
		{Config{Listen: "7310"}, "host:port"},
		{Config{Listen: "127.0.0.1:http"}, "65535"},
		{Config{Listen: "127.0.0.1:65536"}, "65535"},
	} {
		err := c.cfg.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

func TestPortTakenSaysWhatToDo(t *testing.T) {
	l, err := net.Listen("tcp", Loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = New(Config{Listen: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "is taken by another program") || !strings.Contains(err.Error(), Loopback) {
		t.Errorf("got %v", err)
	}
}

func TestMetricsLeaveOutWhatIsUnknown(t *testing.T) {
	s := start(t, Config{})
	n := sample()
	n.Learning.HeldOut = nil
	n.Version = "a\"b\\c\nd"
	s.Publish(n)
	_, body := get(t, s, "/metrics")
	for _, want := range []string{
		`dunlin_info{version="a\"b\\c\nd",run="`, "dunlin_tokens_committed 912000\n", `dunlin_worker_tokens_total{slot="1"} 228000`,
		`dunlin_gpu_temperature_celsius{gpu="0",name="NVIDIA GeForce RTX 3060"} 71`, `dunlin_gpu_throttled{gpu="0",name="NVIDIA GeForce RTX 3060"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if strings.Contains(body, "held_out") || strings.Contains(body, `slot="5"`) {
		t.Errorf("an unknown figure or a gone worker is shown:\n%s", body)
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_0-9]+ .+|[a-z_0-9]+(\{[a-z]+="([^"\\\n]|\\.)*"(,[a-z]+="([^"\\\n]|\\.)*")*\})? [-+.0-9eE]+)$`)
	for l := range strings.Lines(body) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("not a line of the format: %q", l)
		}
	}
}

func TestPageKeepsToItself(t *testing.T) {
	total := 0
	outside := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z]{2,}`)
	inline := regexp.MustCompile(`(?i)<script(?:[^>]*)>[^<]+|<style|\sstyle=|\son[a-z]+=|javascript:`)
	err := fs.WalkDir(web, "web", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := web.ReadFile(name)
		if err != nil {
			return err
		}
		total += len(content)
		if contentType(name) == "" {
			t.Errorf("%s has no content type", name)
		}
		text := strings.ReplaceAll(string(content), "http://www.w3.org/", "")
		if found := outside.FindString(text); found != "" && !strings.HasPrefix(name, "web/vendor/") {
			t.Errorf("%s names another host: %s", name, found)
		}
		if found := inline.FindString(text); found != "" && strings.HasSuffix(name, ".html") {
			t.Errorf("%s has what the content policy forbids: %s", name, found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > 300_000 {
		t.Errorf("the page weighs %d bytes, want at most 300,000", total)
	}
}
