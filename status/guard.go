package status

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// contentPolicy lets the page load its own files and talk to its own server,
// and nothing else; no inline script or style, no frame, no form.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// guard stands before every answer: it counts requests, sends the headers that
// keep browsers strict and turns foreign sites away.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			refuse(w, http.StatusServiceUnavailable, "the program is ending")
			return
		}
		defer s.handlers.Done()
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case s.loopback && !hereByName(r.Host):
			// A page of a foreign site can give its own name this machine's
			// address, and then counts as the same origin for the browser.
			refuse(w, http.StatusMisdirectedRequest, "this page is for this machine only: open it under the address that the program printed")
		case foreign(r):
			refuse(w, http.StatusForbidden, "another site may not ask for this")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hereByName tells whether a Host header names this machine.
func hereByName(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return loopbackHost(host)
}

// foreign tells whether a browser says that another site's page asks. A person
// who follows a link from elsewhere to the page is welcome.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.URL.Path != "/"
}

// reading asks for the token, where there is one, before any figure is shown.
// The page takes it once from its own address and sends it in a header then.
func (s *Server) reading(next http.HandlerFunc) http.HandlerFunc {
	want := sha256.Sum256([]byte(s.cfg.Token))
	return func(w http.ResponseWriter, r *http.Request) {
		if s.cfg.Token != "" {
			given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok {
				given = r.URL.Query().Get("token")
			}
			// Digests have one length, so that the time tells nothing.
			if have := sha256.Sum256([]byte(given)); subtle.ConstantTimeCompare(have[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", `Bearer realm="dunlin"`)
				refuse(w, http.StatusUnauthorized, "this needs the run's read token: open the whole address that the program printed")
				return
			}
		}
		next(w, r)
	}
}
