package link

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// pair makes two hosts or skips the test where that is not allowed.
func pair(t *testing.T, a, b Path) (*Network, *Host, *Host) {
	t.Helper()
	n, err := New(1)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	x, err := n.Host(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := n.Host(b)
	if err != nil {
		t.Fatal(err)
	}
	return n, x, y
}

// TestKernelTCPThroughTheRouter sends through real sockets: a round trip takes the delays, a transfer the rate.
func TestKernelTCPThroughTheRouter(t *testing.T) {
	_, a, b := pair(t, Path{Up: 5e6, Down: 20e6, Delay: 15 * time.Millisecond}, Path{Up: 20e6, Down: 20e6, Delay: 10 * time.Millisecond})
	var listener net.Listener
	if err := b.Do(func() (err error) {
		listener, err = net.Listen("tcp", b.Addr().String()+":9000")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const size = 1 << 20
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if n, _ := io.CopyN(io.Discard, conn, size); n == size {
					_, _ = conn.Write([]byte{1})
				}
			}()
		}
	}()
	var conn net.Conn
	var began time.Time
	rtt := time.Hour
	for try := 0; try < 30 && rtt > 250*time.Millisecond; try++ { // a machine that does other things is late
		var err error
		began = time.Now()
		if conn, err = a.Dial(t.Context(), "tcp", b.Addr().String()+":9000"); err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		rtt = min(rtt, time.Since(began))
	}
	if rtt < 50*time.Millisecond || rtt > 250*time.Millisecond {
		t.Errorf("connecting takes %v, the delays are 50 ms", rtt)
	}
	began = time.Now()
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if rate := float64(a.Count().Sent) * 8 / took.Seconds(); rate > 5.2e6 {
		t.Errorf("%.2f Mbit/s over a link of 5", rate/1e6)
	}
	t.Logf("%.2f Mbit/s of payload over a link of 5", size*8/took.Seconds()/1e6)
}
