//go:build unix

package status

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dunlin/status/statustest"
)

const (
	servesPages = "BENCH_PEOPLE_SERVES" // in the environment of the process that serves
	watchFor    = 40 * time.Second
)

// processorTime is what this process has taken, all threads.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// servePages publishes an evening's run, two snapshots a second with long curves, and answers each line that it reads
// with its processor time.
func servePages(t *testing.T) {
	s := start(t, Config{})
	n := evening()
	for i := range 600 { // as many points as are kept
		n.Learning.Curve = append(n.Learning.Curve, Point{uint64(i) * 143_999, 2.61234, float64(i) + 0.123})
		n.Speed.History = append(n.Speed.History, Rate{At: float64(i) + 0.123, Rate: 8040, Peers: 4, Own: 2010, Classes: []float64{8040}})
	}
	n.Learning.Curve, n.Speed.History = n.Learning.Curve[240:], n.Speed.History[240:]
	done := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			next := *n
			next.Run.Height++
			next.At = time.Now()
			n = &next
			s.Publish(n)
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	fmt.Println(s.URL())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(processorTime().Microseconds())
	}
	close(done)
	publishing.Wait()
}

// TestPeoplePages: what a thousand open pages cost the program that trains, beside what it takes without any. The
// pages are another process's, as they are in life.
func TestPeoplePages(t *testing.T) {
	statustest.Measuring(t)
	if os.Getenv(servesPages) != "" {
		servePages(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPeoplePages$", "-test.count=1")
	cmd.Env = append(os.Environ(), servesPages+"=1")
	orders, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(said)
	line := func() string {
		text, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(text)
	}
	address := line()
	used := func() float64 {
		if _, err := io.WriteString(orders, "used\n"); err != nil {
			t.Fatal(err)
		}
		micros, err := strconv.ParseFloat(line(), 64)
		if err != nil {
			t.Fatal(err)
		}
		return micros / 1e6
	}
	share := func() float64 {
		began, before := time.Now(), used()
		time.Sleep(watchFor)
		return (used() - before) / time.Since(began).Seconds()
	}
	alone := share()

	const pages = 1000
	var watching sync.WaitGroup
	var events atomic.Int64
	client := &http.Client{Transport: &http.Transport{}}
	for range pages {
		answer, err := client.Get(address + "api/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("a page is refused: %s", answer.Status)
		}
		watching.Go(func() {
			defer answer.Body.Close()
			lines := bufio.NewScanner(answer.Body)
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "event: snapshot") {
					events.Add(1)
				}
			}
		})
	}
	before := events.Load()
	watched := share()
	seen := float64(events.Load()-before) / watchFor.Seconds()
	orders.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	watching.Wait()
	t.Logf("%d pages got %.0f snapshots a second in all; the program alone takes %.2f %% of a core", pages, seen, 100*alone)
	if seen < streamPace/2 {
		t.Errorf("pages are not served: %.0f snapshots a second", seen)
	}
	statustest.Beside(t, "a thousand open pages", 100*(watched-alone), 1, "% of a core")
}
