package status

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a network in memory, so that streams run in virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7310} }

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// inMemory runs a test with a server in a bubble of virtual time.
func inMemory(t *testing.T, test func(*testing.T, *Server, *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		s := serve(Config{}, p, p.Addr().String(), true)
		test(t, s, p)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// event as it came, with the virtual moment.
type event struct {
	name, data string
	at         time.Time
}

// watch opens a stream and sends its events until it ends.
func watch(t *testing.T, p *pipes) <-chan event {
	t.Helper()
	conn := p.dial(t)
	events := make(chan event, 256)
	go func() {
		defer close(events)
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return
		}
		defer response.Body.Close()
		if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
			events <- event{name: "refused", data: response.Status}
			return
		}
		var e event
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			switch line := lines.Text(); {
			case strings.HasPrefix(line, "event: "):
				e.name = line[7:]
			case strings.HasPrefix(line, "data: "):
				e.data = line[6:]
			case line == "":
				e.at = time.Now()
				events <- e
				e = event{}
			}
		}
	}()
	return events
}

// drain takes what has come so far.
func drain(events <-chan event) (got []event) {
	synctest.Wait()
	for {
		select {
		case e, open := <-events:
			if !open {
				return got
			}
			got = append(got, e)
		default:
			return got
		}
	}
}

func heights(t *testing.T, events []event) (got []uint64) {
	t.Helper()
	for _, e := range events {
		if e.name != "snapshot" {
			continue
		}
		var s Snapshot
		if err := json.Unmarshal([]byte(e.data), &s); err != nil {
			t.Fatal(err)
		}
		got = append(got, s.Run.Height)
	}
	return got
}

func at(height uint64) *Snapshot { return &Snapshot{Run: Run{Height: height}} }

func TestStreamDeliversTheNewest(t *testing.T) {
	inMemory(t, func(t *testing.T, s *Server, p *pipes) {
		events := watch(t, p)
		if got := drain(events); len(got) != 1 || got[0].name != "alive" || got[0].data != `{"age_seconds":null}` {
			t.Errorf("before the first snapshot: %v", got)
		}
		s.Publish(at(1))
		time.Sleep(streamGap)
		if got := heights(t, drain(events)); len(got) != 1 || got[0] != 1 {
			t.Fatalf("got heights %v, want 1", got)
		}
		for h := uint64(2); h <= 41; h++ { // 20 a second for two seconds
			s.Publish(at(h))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(streamGap)
		got := drain(events)
		seen := heights(t, got)
		if len(seen) < 8 || len(seen) > 10 || seen[len(seen)-1] != 41 {
			t.Errorf("got heights %v, want about four a second and the newest, 41, last", seen)
		}
		for i := 1; i < len(got); i++ {
			if got[i].name == "snapshot" && got[i-1].name == "snapshot" && got[i].at.Sub(got[i-1].at) < streamGap {
				t.Errorf("two snapshots within %v", got[i].at.Sub(got[i-1].at))
			}
		}
	})
}

// Packed, a stream is one gzip stream of the same events, and small.
func TestStreamIsPackedForThoseWhoTakeIt(t *testing.T) {
	s := start(t, Config{})
	s.Publish(evening())
	answer, err := direct().Get(s.URL() + "api/v1/events") // asks for gzip, and unpacks
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if !answer.Uncompressed {
		t.Fatal("the stream is not packed")
	}
	lines := bufio.NewReader(answer.Body)
	for height := uint64(8812); height < 8815; height++ {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			data, is := strings.CutPrefix(line, "data: ")
			if !is || !strings.Contains(data, `"run"`) {
				continue
			}
			var n Snapshot
			if err := json.Unmarshal([]byte(data), &n); err != nil || n.Run.Height != height {
				t.Fatalf("height %d, %v; want %d", n.Run.Height, err, height)
			}
			break
		}
		next := evening()
		next.Run.Height = height + 1
		s.Publish(next)
	}
	e := s.current.Load()
	if err := e.encode(); err != nil || len(e.pack())*3 > len(e.event) {
		t.Errorf("%d bytes are packed to %d, %v", len(e.event), len(e.pack()), err)
	}
}

func TestStreamSaysHowOldTheNewestIs(t *testing.T) {
	inMemory(t, func(t *testing.T, s *Server, p *pipes) {
		s.Publish(at(1))
		time.Sleep(7 * time.Second)
		events := watch(t, p)
		time.Sleep(10*time.Second + time.Millisecond)
		var ages []string
		for _, e := range drain(events) {
			if e.name == "alive" {
				ages = append(ages, e.data)
			}
		}
		if got := strings.Join(ages, " "); got != `{"age_seconds":7.0} {"age_seconds":12.0} {"age_seconds":17.0}` {
			t.Errorf("got %s", got)
		}
		conn := p.dial(t)
		defer conn.Close()
		go func() {
			_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		}()
		answer, _ := io.ReadAll(conn)
		if !strings.Contains(string(answer), "503") || !strings.Contains(string(answer), "stale: no snapshot for 17 s") {
			t.Errorf("healthz says %s", answer)
		}
	})
}

func TestSlowClientIsDroppedAndHoldsNobodyUp(t *testing.T) {
	inMemory(t, func(t *testing.T, s *Server, p *pipes) {
		slow := p.dial(t)
		defer slow.Close()
		go func() { _, _ = io.WriteString(slow, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n") }()
		good := watch(t, p)
		synctest.Wait()
		if n := s.streams.Load(); n != 2 {
			t.Fatalf("%d streams, want 2", n)
		}
		began := time.Now()
		for h := uint64(1); h <= 1000; h++ {
			s.Publish(at(h))
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("publishing took %v", d)
		}
		time.Sleep(writeTimeout + time.Second)
		if seen := heights(t, drain(good)); len(seen) == 0 || seen[len(seen)-1] != 1000 {
			t.Errorf("beside a slow one a client got %v", seen)
		}
		if n := s.streams.Load(); n != 1 {
			t.Errorf("%d streams, want 1: the slow one is dropped", n)
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	inMemory(t, func(t *testing.T, s *Server, p *pipes) {
		s.streams.Store(maxStreams)
		if got := drain(watch(t, p)); len(got) != 1 || got[0].name != "refused" || !strings.HasPrefix(got[0].data, "503") {
			t.Errorf("got %v, want 503", got)
		}
		if n := s.streams.Load(); n != maxStreams {
			t.Errorf("%d streams counted, want %d", n, maxStreams)
		}
		s.streams.Store(maxStreams - 1)
		if got := drain(watch(t, p)); len(got) != 1 || got[0].name != "alive" {
			t.Errorf("got %v, want the last place", got)
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		l := limit(p, 2)
		accepted := make(chan net.Conn)
		go func() {
			defer close(accepted)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
		var inside []net.Conn
		for range 2 {
			defer p.dial(t).Close()
			inside = append(inside, <-accepted)
		}
		third, there := net.Pipe()
		defer third.Close()
		select {
		case p.conns <- there:
			t.Error("a third connection was accepted")
		case <-time.After(time.Hour):
		}
		inside[0].Close()
		inside[0].Close() // counts once
		p.conns <- there
		(<-accepted).Close()
		inside[1].Close()
		l.Close()
		<-accepted
	})
}

func TestCloseEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		s := serve(Config{}, p, p.Addr().String(), true)
		s.Publish(at(1))
		reads := watch(t, p)
		stuck := p.dial(t)
		defer stuck.Close()
		go func() { _, _ = io.WriteString(stuck, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n") }()
		synctest.Wait()
		began := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > 2*closeGrace {
			t.Errorf("took %v although one visitor reads nothing, want at most %v", d, 2*closeGrace)
		}
		if n := s.streams.Load(); n != 0 {
			t.Errorf("%d streams still run", n)
		}
		if got := drain(reads); len(got) == 0 || got[len(got)-1].name != "end" {
			t.Errorf("the last word is not the end: %v", got)
		}
		s.Publish(at(2)) // harmless
		if err := s.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestStreamEndsWithItsVisitor(t *testing.T) {
	s := start(t, Config{})
	s.Publish(sample())
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := direct().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(w.Body).ReadString('\n'); err != nil || line != "event: alive\n" {
		t.Errorf("got %q %v", line, err)
	}
	leave()
	w.Body.Close()
	for began := time.Now(); s.streams.Load() > 0; {
		if time.Since(began) > time.Minute {
			t.Fatal("the stream outlives its visitor")
		}
		s.Publish(sample())
	}
}

func TestManyPublishersAndReaders(t *testing.T) {
	s := start(t, Config{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for h := range uint64(200) {
				s.Publish(at(h))
			}
		})
		all.Go(func() {
			for range 200 {
				if e := s.current.Load(); e.snapshot != nil && e.encode() != nil {
					t.Error(e.err)
				}
			}
		})
	}
	all.Wait()
	if e := s.current.Load(); e.number == 0 || e.number > 800 {
		t.Errorf("edition %d after 800", e.number)
	}
}
