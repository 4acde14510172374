package status

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
)

// Change is what an owner asks of this machine's peer: to pause or go on, new
// limits by the names of their flags, or both. The answer is nil once it holds.
type Change struct {
	Pause  *bool             `json:"pause,omitempty"`
	Limits map[string]string `json:"limits,omitempty"`
}

// ControlHeader is the header of a change that carries the token of
// /api/v1/machine/token, which a page of another site cannot read.
const ControlHeader = "X-Dunlin-Control"

// maxChange bounds the bytes of a Change.
const maxChange = 16 << 10

// controls lets the owner steer this machine's peer from its page. Whoever may
// open loopback ports here may do so; another site's page may not, as the
// browser names it (Sec-Fetch-Site, Origin), may send no such header without
// being allowed to, and cannot read the token.
type controls struct {
	token  string
	change func(context.Context, Change) error
}

func newControls(change func(context.Context, Change) error) *controls {
	return &controls{token: rand.Text(), change: change}
}

// controlling answers requests that steer this machine, or says why none may.
func (s *Server) controlling(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		switch {
		case s.controls == nil:
			refuse(w, http.StatusNotFound, "nothing can be changed on this page: it is not of a worker")
		case !s.loopback:
			refuse(w, http.StatusForbidden, "changes are taken on the worker's own machine only: open its page there, or use dunlin pause and dunlin resume")
		case origin != "" && origin != "http://"+r.Host:
			refuse(w, http.StatusForbidden, "another site may not ask for this")
		default:
			next(w, r)
		}
	}
}

// controlToken gives the page its token. Other sites cannot read answers.
func (s *Server) controlToken(w http.ResponseWriter, _ *http.Request) {
	body, _ := json.Marshal(map[string]string{"token": s.controls.token}) // strings always encode
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // a visitor that left needs no answer
}

func (s *Server) changeMachine(w http.ResponseWriter, r *http.Request) {
	have, want := sha256.Sum256([]byte(r.Header.Get(ControlHeader))), sha256.Sum256([]byte(s.controls.token))
	if subtle.ConstantTimeCompare(have[:], want[:]) != 1 {
		refuse(w, http.StatusForbidden, "the control token is missing or of an earlier process: load the page again")
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "want a change as application/json")
		return
	}
	var change Change
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxChange))
	in.DisallowUnknownFields()
	err := in.Decode(&change)
	if _, more := in.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("more than one object")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "want an object with pause (true or false) or limits (flag names and values): "+err.Error())
		return
	}
	if err := s.controls.change(r.Context(), change); err != nil {
		refuse(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
