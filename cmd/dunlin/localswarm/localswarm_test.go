package localswarm

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dunlin/machine"
	"dunlin/status"
	"dunlin/wire"
)

// TestMain makes this program a coordinator of its own kind: it listens where it is told, says so, and stays until its standard input ends.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "coordinator" {
		port, page := os.Args[slices.Index(os.Args, "--port")+1], os.Args[slices.Index(os.Args, "--listen")+1]
		for _, address := range []string{"127.0.0.1:" + port, page} {
			if _, err := net.Listen("tcp", address); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		fmt.Printf("{\"Invite\": \"of %s\", \"Page\": \"http://%s\"}\n", port, page)
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent's
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ports draws so many free ones, no two of them beside each other.
func ports(n int) (free []int) {
	for len(free) < n {
		port := machine.FreePorts()
		if port != 0 && !slices.ContainsFunc(free, func(p int) bool { return max(p, port)-min(p, port) < 3 }) {
			free = append(free, port)
		}
	}
	return free
}

// TestCoordinatorStartsOnOtherPorts when another program took those that were free a moment ago, the network's or the page's.
func TestCoordinatorStartsOnOtherPorts(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	free := ports(4)
	stolen, a, b, c := free[0], free[1], free[2], free[3]
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(stolen))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, drawn := range [][]int{{stolen, a, b, c}, {a, stolen, b, c}, {b, b, b + 1, c}} {
		s := &Swarm{Dir: t.TempDir(), binary: binary}
		if err := os.Mkdir(s.Path("logs"), 0o700); err != nil {
			t.Fatal(err)
		}
		seat := &Seat{name: "coordinator", folder: s.Path("coordinator"), listen: "127.0.0.1:0"}
		s.seats = append(s.seats, seat)
		next := slices.Clone(drawn)
		err := s.openSeat(context.Background(), seat, func() int {
			if len(next) == 0 { // another program was faster once more
				return machine.FreePorts()
			}
			p := next[0]
			next = next[1:]
			return p
		})
		if err != nil {
			t.Errorf("ports %v: %v", drawn, err)
			continue
		}
		if s.Invite != fmt.Sprintf("of %d", seat.port) || !strings.HasSuffix(seat.page, seat.listen) || seat.port == stolen || strings.HasSuffix(seat.page, ":"+strconv.Itoa(stolen)) {
			t.Errorf("ports %v: on %d, invite %q, page %s", drawn, seat.port, s.Invite, seat.page)
		}
		s.Stop()
	}
	// What is wrong for another reason is said at once.
	s := &Swarm{Dir: t.TempDir(), binary: "/nowhere"}
	if err := os.Mkdir(s.Path("logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	draws := 0
	seat := &Seat{name: "coordinator", listen: "127.0.0.1:0"}
	s.seats = append(s.seats, seat)
	if err := s.openSeat(context.Background(), seat, func() int { draws += 2; return a + draws }); err == nil || draws != 4 {
		t.Errorf("no binary: %v after %d draws", err, draws/2)
	}
}

// TestSettled: a goodbye that the coordinator's page does not have yet is waited for.
func TestSettled(t *testing.T) {
	at := func(height uint64, state byte) status.Peer {
		return status.Peer{Slot: 1, Clock: 1000, Height: height, StateHash: wire.Hash{state}}
	}
	worker := func(p status.Peer) *Worker {
		w := &Worker{}
		w.Tally.Heard(&p)
		return w
	}
	dead, unheard := worker(at(3, 1)), &Worker{}
	dead.Killed = true
	for _, c := range []struct {
		name string
		last status.Peer
		want bool
	}{{"at the end", at(47, 2), true}, {"before its last commits", at(41, 1), false}, {"before its state is known", at(47, 0), false}} {
		s := &Swarm{Workers: []*Worker{worker(at(47, 2)), dead, unheard, worker(c.last)}}
		if got := s.Settled(); got != c.want {
			t.Errorf("heard %s: settled %v", c.name, got)
		}
	}
}
