package status

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// ask sends a request with headers in pairs and returns the code and the body.
func ask(t *testing.T, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w, err := direct().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	got, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(got)
}

// TestChangesComeFromHereOnly tries each way in which a change may come from elsewhere.
func TestChangesComeFromHereOnly(t *testing.T) {
	var changes []Change
	s := start(t, Config{Change: func(_ context.Context, c Change) error {
		if c.Limits["up"] == "1" {
			return errors.New(`up "1": no unit; allowed: like 10mbit`)
		}
		changes = append(changes, c)
		return nil
	}})
	url := s.URL() + "api/v1/machine"
	code, body := ask(t, "GET", url+"/token", "")
	token := strings.TrimSuffix(strings.TrimPrefix(body, `{"token":"`), "\"}\n")
	if code != http.StatusOK || len(token) < 20 {
		t.Fatalf("token: %d %s", code, body)
	}
	here := strings.TrimSuffix(s.URL(), "/")
	const json = "application/json"
	for _, c := range []struct {
		name, body string
		headers    []string
		code       int
		says       string
	}{
		{"the page", `{"pause":true}`, []string{ControlHeader, token, "Content-Type", json, "Origin", here, "Sec-Fetch-Site", "same-origin"}, 204, ""},
		{"a program", `{"limits":{"up":"2mbit"}}`, []string{ControlHeader, token, "Content-Type", json}, 204, ""},
		{"a wrong limit", `{"limits":{"up":"1"}}`, []string{ControlHeader, token, "Content-Type", json}, 422, "no unit; allowed"},
		{"no token", `{"pause":true}`, []string{"Content-Type", json}, 403, "control token is missing"},
		{"another token", `{"pause":true}`, []string{ControlHeader, "x" + token[1:] + "y", "Content-Type", json}, 403, "control token is missing"},
		{"a form of another site", `{"pause":true}`, []string{ControlHeader, token, "Content-Type", "text/plain", "Origin", "http://evil.example"}, 403, "another site"},
		{"a sandboxed frame", `{"pause":true}`, []string{ControlHeader, token, "Content-Type", json, "Origin", "null"}, 403, "another site"},
		{"another port here", `{"pause":true}`, []string{ControlHeader, token, "Content-Type", json, "Origin", "http://127.0.0.1:1"}, 403, "another site"},
		{"another site by its mark", `{"pause":true}`, []string{ControlHeader, token, "Content-Type", json, "Sec-Fetch-Site", "cross-site"}, 403, "another site"},
		{"a name that points here", `{"pause":true}`, []string{ControlHeader, token, "Content-Type", json, "Host", "evil.example"}, 421, "this machine only"},
		{"no JSON", `pause=true`, []string{ControlHeader, token, "Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		{"nonsense", `{"pause":1}`, []string{ControlHeader, token, "Content-Type", json}, 400, "want an object"},
		{"an unknown field", `{"end":true}`, []string{ControlHeader, token, "Content-Type", json}, 400, "unknown field"},
		{"two", `{} {}`, []string{ControlHeader, token, "Content-Type", json}, 400, "more than one"},
		{"too much", `{"limits":{"up":"` + strings.Repeat("1", maxChange) + `"}}`, []string{ControlHeader, token, "Content-Type", json}, 400, "too large"},
	} {
		if code, body := ask(t, "POST", url, c.body, c.headers...); code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s; want %d with %q", c.name, code, body, c.code, c.says)
		}
	}
	if len(changes) != 2 || changes[0].Pause == nil || !*changes[0].Pause || changes[1].Limits["up"] != "2mbit" {
		t.Errorf("changes that came through: %+v", changes)
	}
	for _, from := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Host", "evil.example"}, {"Origin", "http://evil.example"}} {
		if code, body := ask(t, "GET", url+"/token", "", from...); code == http.StatusOK || strings.Contains(body, token) {
			t.Errorf("%v reads the token: %d", from, code)
		}
	}
	if code, _ := ask(t, "GET", url, ""); code != http.StatusMethodNotAllowed {
		t.Errorf("GET of the change: %d", code)
	}
}

func TestNothingToChange(t *testing.T) {
	s := start(t, Config{})
	if code, body := ask(t, "POST", s.URL()+"api/v1/machine", `{"pause":true}`); code != http.StatusNotFound || !strings.Contains(body, "not of a worker") {
		t.Errorf("a coordinator's page: %d %s", code, body)
	}
	open := start(t, Config{Change: func(context.Context, Change) error { t.Error("changed"); return nil }})
	open.loopback = false // as on any other address
	for _, r := range [][2]string{{"POST", "api/v1/machine"}, {"GET", "api/v1/machine/token"}} {
		if code, body := ask(t, r[0], open.URL()+r[1], ""); code != http.StatusForbidden || !strings.Contains(body, "own machine only") {
			t.Errorf("a page that others reach: %s %d %s", r, code, body)
		}
	}
}
