package status

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// routes is every address the server answers; the mux refuses other methods.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for path, a := range assets() {
		mux.Handle("GET "+path, a)
	}
	for pattern, handle := range s.api() {
		mux.HandleFunc(pattern, handle)
	}
	return mux
}

// api is every address but the page's own files; docs/openapi.json has the same.
func (s *Server) api() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /api/v1/snapshot":        s.reading(s.snapshot),
		"GET /api/v1/events":          s.reading(s.events),
		"GET /api/v1/ledger/{height}": s.reading(s.entry),
		"GET /api/v1/invite.svg":      s.reading(s.inviteCode),
		"GET /metrics":                s.reading(s.metrics),
		"GET /healthz":                s.healthz,
		"GET /api/v1/machine/token":   s.controlling(s.controlToken),
		"POST /api/v1/machine":        s.controlling(s.changeMachine),
	}
}

// refuse answers with an error as JSON.
func refuse(w http.ResponseWriter, code int, text string) {
	body, _ := json.Marshal(map[string]string{"error": text}) // strings always encode
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // a visitor that left needs no answer
}

// newest returns the newest edition with its bytes, or answers why there is none.
func (s *Server) newest(w http.ResponseWriter) *edition {
	e := s.current.Load()
	if e.snapshot == nil {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "there is no snapshot yet: the program is starting")
		return nil
	}
	if err := e.encode(); err != nil {
		s.log.Error("snapshot cannot be shown", "error", err)
		refuse(w, http.StatusInternalServerError, "the snapshot cannot be shown: the program's log says why")
		return nil
	}
	return e
}

func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) {
	e := s.newest(w)
	if e == nil {
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", e.etag)
	if strings.Contains(r.Header.Get("If-None-Match"), e.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(e.json) // a visitor that left needs no answer
}

// entryWithin bounds how long a page waits for an entry of the ledger.
const entryWithin = 3 * time.Second

// entry tells all that one entry of the ledger says.
func (s *Server) entry(w http.ResponseWriter, r *http.Request) {
	height, err := strconv.ParseUint(r.PathValue("height"), 10, 64)
	switch {
	case err != nil || height == 0:
		refuse(w, http.StatusBadRequest, "the height of an entry is a whole number from 1 on")
		return
	case s.cfg.Entry == nil:
		refuse(w, http.StatusNotFound, "this program keeps no ledger")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), entryWithin)
	defer cancel()
	detail, err := s.cfg.Entry(ctx, height)
	if err != nil {
		refuse(w, http.StatusNotFound, err.Error())
		return
	}
	body, err := json.Marshal(detail)
	if err != nil {
		s.log.Error("entry cannot be shown", "height", height, "error", err)
		refuse(w, http.StatusInternalServerError, "the entry cannot be shown: the program's log says why")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // a visitor that left needs no answer
}

// inviteCode shows the invite as a QR code.
func (s *Server) inviteCode(w http.ResponseWriter, _ *http.Request) {
	e := s.newest(w)
	if e == nil {
		return
	}
	if e.snapshot.Invite == "" {
		refuse(w, http.StatusNotFound, "this page shows no invite: ask the organiser, who has dunlin coordinator invite")
		return
	}
	code, err := qrSVG(e.snapshot.Invite)
	if err != nil {
		refuse(w, http.StatusNotFound, "the invite is too long for a QR code: copy it as text")
		return
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(code) // a visitor that left needs no answer
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	e := s.current.Load()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	switch {
	case e.snapshot == nil:
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "starting: no snapshot yet")
	case e.age() > staleAfter:
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "stale: no snapshot for %s\n", Duration(e.age().Seconds()))
	default:
		fmt.Fprintln(w, "ok")
	}
}

// events streams the newest snapshot whenever there is one, at most four a
// second, and fewer while many watch: what they cost the program in all stays
// bounded. A reader that is slow misses those in between; one that does not
// read at all is dropped.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusServiceUnavailable, "too many people watch here: try again later, or ask for /api/v1/snapshot now and then")
		return
	}
	defer s.streams.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must pass events on at once
	if r.Method == http.MethodHead {
		return
	}
	out := eventWriter{w: w, control: http.NewResponseController(w), packs: strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")}
	if out.packs {
		w.Header().Set("Content-Encoding", "gzip")
		if _, err := w.Write(gzipHeader); err != nil {
			return
		}
	}
	s.stream(r.Context(), out)
}

func (s *Server) stream(ctx context.Context, out eventWriter) {
	alive, gap := time.NewTimer(aliveEvery), time.NewTimer(0)
	defer alive.Stop()
	defer gap.Stop()
	e := s.current.Load()
	if out.alive(e) != nil {
		return
	}
	for {
		if e.snapshot != nil && (e.encode() != nil || out.edition(e) != nil) {
			return
		}
		pause := s.gap(time.Now())
		gap.Reset(pause)
		alive.Reset(max(aliveEvery, pause+time.Second)) // a snapshot says it, too
		// First the gap, then what is newer: nobody is woken for an edition that it must let pass.
		for ready, newer := gap.C, (<-chan struct{})(nil); ready != nil || newer != nil; {
			select {
			case <-ready:
				ready, newer = nil, e.next
			case <-newer:
				newer = nil
			case <-alive.C:
				if out.alive(e) != nil {
					return
				}
				alive.Reset(aliveEvery)
			case <-ctx.Done():
				// When the server ends, the page can say so. To a visitor that left it does no harm.
				_ = out.write([]byte("event: end\ndata: {}\n\n"))
				return
			}
		}
		e = s.current.Load()
	}
}

// gap is how long a stream that has sent a snapshot at a time waits while so many watch as now. Long waits end at whole
// half seconds, those of many streams together: to wake the program costs more than a snapshot does.
func (s *Server) gap(sent time.Time) time.Duration {
	pause := max(streamGap, time.Duration(s.streams.Load())*time.Second/streamPace)
	if pause < 4*wakeEvery {
		return pause
	}
	return sent.Add(pause).Truncate(wakeEvery).Sub(sent)
}

// eventWriter writes whole events, each within the write timeout.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	packs   bool // the stream is gzip
}

// edition writes a snapshot, which is encoded and packed once for all streams.
func (o eventWriter) edition(e *edition) error {
	if o.packs {
		return o.send(e.pack())
	}
	return o.send(e.event)
}

// write writes a short event.
func (o eventWriter) write(event []byte) error {
	if o.packs {
		event = stored(event)
	}
	return o.send(event)
}

func (o eventWriter) send(event []byte) error {
	if err := o.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := o.w.Write(event); err != nil {
		return err
	}
	return o.control.Flush()
}

// alive says how old the newest snapshot is, so that the page knows stale
// figures whatever its own clock says. No snapshot has no age.
func (o eventWriter) alive(e *edition) error {
	age := "null"
	if e.snapshot != nil {
		age = fmt.Sprintf("%.1f", e.age().Seconds())
	}
	return o.write(fmt.Appendf(nil, "event: alive\ndata: {\"age_seconds\":%s}\n\n", age))
}
