package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds on what visitors can make the server do.
const (
	maxConnections = 2200 // open at a time, streams and others
	maxStreams     = 2000 // server-sent event streams among them
	maxHeader      = 16 << 10

	headerTimeout = 5 * time.Second  // for a request to come in
	writeTimeout  = 10 * time.Second // for an answer, or one event, to go out
	idleTimeout   = time.Minute
	closeGrace    = time.Second // for answers under way when the server closes

	streamGap  = 250 * time.Millisecond // between two snapshots on one stream, at least
	streamPace = 50                     // snapshots a second on all streams, at most
	wakeEvery  = 500 * time.Millisecond // streams that wait for long wait until the same moment
	aliveEvery = 5 * time.Second        // of silence on a stream until it says that it lives
	staleAfter = 15 * time.Second       // without a snapshot, /healthz says so
)

// Server serves the page and the API.
type Server struct {
	cfg      Config
	log      *slog.Logger
	url      string
	loopback bool      // only this machine can reach it
	controls *controls // nil where nothing can be steered
	http     *http.Server

	current atomic.Pointer[edition]
	number  atomic.Uint64
	streams atomic.Int64

	stop   context.CancelFunc // ends the streams
	served chan struct{}      // closed when no connection is accepted any more

	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup // requests being answered
}

// New listens and begins to serve. Before the first Publish the page is there
// and says that it waits.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l, err := open(cfg.listen())
	if err != nil {
		return nil, err
	}
	addr := l.Addr().(*net.TCPAddr)
	if cfg.Token == "" && !addr.IP.IsLoopback() {
		_ = l.Close() // nothing was served
		return nil, fmt.Errorf("status page: %s is not an address of this machine alone here: that needs a token", cfg.Listen)
	}
	return serve(cfg, l, pageAddress(addr), addr.IP.IsLoopback()), nil
}

func serve(cfg Config, l net.Listener, address string, loopback bool) *Server {
	s := &Server{cfg: cfg, log: cfg.logger(), loopback: loopback, served: make(chan struct{})}
	s.url = "http://" + address + "/"
	if cfg.Token != "" {
		s.url += "?token=" + cfg.Token
	}
	if cfg.Change != nil {
		s.controls = newControls(cfg.Change)
	}
	s.current.Store(newEdition(0, nil))
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.http = &http.Server{
		Handler:           s.guard(s.routes()),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(limit(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("status page stopped", "error", err)
		}
	}()
	return s
}

// Publish makes a snapshot the newest one. It only exchanges a pointer: it
// never waits for a reader, and readers that are slow get the newest next. The
// snapshot must not be changed afterwards.
func (s *Server) Publish(snapshot *Snapshot) {
	old := s.current.Swap(newEdition(s.number.Add(1), snapshot))
	close(old.next)
}

// URL is where a person opens the page, with the token when there is one.
func (s *Server) URL() string { return s.url }

// Close tells open pages that the program ends, and returns when no request is
// answered any more. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil { // a visitor does not read its answer: cut it off
		err = s.http.Close()
	}
	<-s.served
	s.handlers.Wait()
	return err
}

// enter counts a request in, unless the server is closing.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	return true
}

// pageAddress is the host:port that a person can open. For a listener on all
// addresses that is the first one other machines can reach.
func pageAddress(addr *net.TCPAddr) string {
	if !addr.IP.IsUnspecified() {
		return addr.String()
	}
	show := net.IPv4(127, 0, 0, 1)
	addresses, _ := net.InterfaceAddrs() // without them loopback is still right
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			show = n.IP
			break
		}
	}
	return (&net.TCPAddr{IP: show, Port: addr.Port}).String()
}

// limited is a listener that holds at most so many connections open.
type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func limit(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, slots: make(chan struct{}, n), done: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, slots: l.slots}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.slots })
	return err
}
