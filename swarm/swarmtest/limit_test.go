package swarmtest_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"dunlin/swarm"
	"dunlin/swarm/swarmtest"
	"dunlin/wire"
)

// wide is a link that limits nothing here.
var wide = swarmtest.Link{RTT: 50 * time.Millisecond, Up: 200e6, Down: 200e6}

// udpHeaders is what each packet weighs beside its payload, bytes: IPv4 and UDP.
const udpHeaders = 28

// TestRateLimitsHold moves answers, 16 at a time, under a limit of either side:
// goodput is within 5 % below the limit, and the wire carries no more than it.
func TestRateLimitsHold(t *testing.T) {
	const count = 24
	for _, bits := range []int{1_000_000, 20_000_000} {
		for _, side := range []string{"up", "down"} {
			t.Run(fmt.Sprintf("%s/%d", side, bits), func(t *testing.T) {
				swarmtest.Run(t, func(t *testing.T) {
					network := swarmtest.New(t, wide)
					blob := make([]byte, bits/8/4) // of a quarter of a second
					giver := network.Host(newHandler(blob), func(c *swarm.Config) {
						if side == "up" {
							c.Up = bits
						}
					})
					taker := network.Host(newHandler(nil), func(c *swarm.Config) {
						if side == "down" {
							c.Down = bits
						}
					})
					if err := taker.Connect(t.Context(), giver.ID(), giver.Addrs()); err != nil {
						t.Fatal(err)
					}
					fetchAll(t, taker, giver, 1, len(blob)) // connects for bulk
					before, start := giver.Stats(), time.Now()
					fetchAll(t, taker, giver, count, len(blob))
					after, seconds := giver.Stats(), time.Since(start).Seconds()
					goodput := count * float64(len(blob)) * 8 / seconds / float64(bits)
					sent := after.Socket.Out - before.Socket.Out
					onWire := float64(sent+sent/1250*udpHeaders) * 8 / seconds / float64(bits)
					t.Logf("goodput %.3f of the limit, wire %.3f", goodput, onWire)
					if goodput < 0.95 || onWire > 1.05 {
						t.Errorf("goodput %.3f of the limit, want 0.95; on the wire %.3f, want at most 1.05", goodput, onWire)
					}
				})
			})
		}
	}
}

func fetchAll(t *testing.T, taker, giver *swarm.Host, count, size int) {
	t.Helper()
	var all sync.WaitGroup
	for i := range count {
		all.Go(func() {
			if got, err := taker.Fetch(t.Context(), giver.ID(), wire.ClassResult, fmt.Appendf(nil, "blob %d", i), size); err != nil || len(got) != size {
				t.Errorf("fetched %d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()
}

// TestUrgentBulkOvertakes fetches a large answer of low urgency and, while it
// comes, results: these come at the limit's rate, and the first does not stall
// although there is nothing left for it for ten seconds.
func TestUrgentBulkOvertakes(t *testing.T) {
	const bits = 1_000_000
	for _, side := range []string{"up", "down"} {
		t.Run(side, func(t *testing.T) {
			swarmtest.Run(t, func(t *testing.T) {
				network := swarmtest.New(t, wide)
				second := bits / 8
				giver := network.Host(newHandler(make([]byte, 10*second)), func(c *swarm.Config) {
					if side == "up" {
						c.Up = bits
					}
				})
				taker := network.Host(newHandler(nil), func(c *swarm.Config) {
					if side == "down" {
						c.Down = bits
					}
				})
				if err := taker.Connect(t.Context(), giver.ID(), giver.Addrs()); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				slow := make(chan error, 2)
				data := func(name string) {
					_, err := taker.Fetch(t.Context(), giver.ID(), wire.ClassData, []byte(name), 10*second)
					slow <- err
				}
				go data("a shard")
				time.Sleep(time.Second)
				began := time.Now()
				go data("a shard that is asked for when there is no room")
				if _, err := taker.Fetch(t.Context(), giver.ID(), wire.ClassResult, []byte("a result"), 10*second); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 11500*time.Millisecond {
					t.Errorf("ten seconds of results took %s beside data", took)
				}
				for range 2 {
					if err := <-slow; err != nil {
						t.Errorf("the data: %v", err)
					}
				}
				if took := time.Since(start); took > 33*time.Second {
					t.Errorf("thirty seconds of bulk took %s", took)
				}
			})
		})
	}
}

// TestGoodputOnAShapedLink: where nobody sets a limit the link does, and answers take
// at least 92 % of it.
func TestGoodputOnAShapedLink(t *testing.T) {
	for _, link := range []swarmtest.Link{
		{RTT: 50 * time.Millisecond, Up: 600_000, Down: 2_400_000}, {RTT: 50 * time.Millisecond, Up: 5_000_000, Down: 20_000_000},
	} {
		t.Run(fmt.Sprint(link.Up), func(t *testing.T) {
			swarmtest.Run(t, func(t *testing.T) {
				network := swarmtest.New(t, link)
				blob := make([]byte, link.Up/8/2) // of half a second
				giver, taker := network.Host(newHandler(blob), nil), network.Host(newHandler(nil), nil)
				if err := taker.Connect(t.Context(), giver.ID(), giver.Addrs()); err != nil {
					t.Fatal(err)
				}
				fetchAll(t, taker, giver, 1, len(blob)) // connects for bulk
				const count = 24
				start := time.Now()
				fetchAll(t, taker, giver, count, len(blob))
				goodput := count * float64(len(blob)) * 8 / time.Since(start).Seconds() / float64(link.Up)
				t.Logf("goodput %.3f of the link", goodput)
				if goodput < 0.92 {
					t.Errorf("goodput %.3f of the link, want 0.92", goodput)
				}
			})
		})
	}
}

// TestManyTransfersUnderTheLowestLimit: two dozen answers at a time come whole, none
// of them given up by a watchdog, whichever side has the limit.
func TestManyTransfersUnderTheLowestLimit(t *testing.T) {
	for _, side := range []string{"up", "down"} {
		t.Run(side, func(t *testing.T) {
			swarmtest.Run(t, func(t *testing.T) {
				network := swarmtest.New(t, wide)
				const size = 8 << 10
				giver := network.Host(newHandler(make([]byte, size)), func(c *swarm.Config) {
					c.Limits = swarm.DefaultLimits()
					c.Limits.Fetches = 24
					if side == "up" {
						c.Up = swarm.MinRate
					}
				})
				taker := network.Host(newHandler(nil), func(c *swarm.Config) {
					c.Limits = swarm.DefaultLimits()
					c.Limits.Fetches = 24
					if side == "down" {
						c.Down = swarm.MinRate
					}
				})
				if err := taker.Connect(t.Context(), giver.ID(), giver.Addrs()); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				fetchAll(t, taker, giver, 24, size)
				t.Logf("24 answers of %d bytes took %s", size, time.Since(start))
			})
		})
	}
}

// TestBrokenTransferGoesOnElsewhere cuts a holder off in the middle of a large
// answer: another holder sends the rest only.
func TestBrokenTransferGoesOnElsewhere(t *testing.T) {
	for _, down := range []int{0, 8_000_000} {
		t.Run(fmt.Sprint(down), func(t *testing.T) {
			swarmtest.Run(t, func(t *testing.T) {
				network := swarmtest.New(t, home)
				blob := make([]byte, 4<<20)
				for i := range blob {
					blob[i] = byte(i * i >> 7)
				}
				first, second := network.Host(newHandler(blob), nil), network.Host(newHandler(blob), nil)
				taker := network.Host(newHandler(nil), func(c *swarm.Config) { c.Down = down })
				for _, h := range []*swarm.Host{first, second} {
					if err := taker.Connect(t.Context(), h.ID(), h.Addrs()); err != nil {
						t.Fatal(err)
					}
				}
				broke := make(chan error, 1)
				go func() {
					_, err := taker.Fetch(t.Context(), first.ID(), wire.ClassJoin, []byte("blob"), len(blob))
					broke <- err
				}()
				time.Sleep(2 * time.Second)
				network.Cut(first)
				if err := <-broke; err == nil {
					t.Fatal("the transfer ended well across a cut")
				}
				before := second.Stats().Classes[wire.ClassJoin].Out
				came := taker.Stats().Classes[wire.ClassJoin].In
				got, err := taker.Fetch(t.Context(), second.ID(), wire.ClassJoin, []byte("blob"), len(blob))
				if err != nil || !bytes.Equal(got, blob) {
					t.Fatalf("fetched %d bytes, %v", len(got), err)
				}
				sent := second.Stats().Classes[wire.ClassJoin].Out - before
				t.Logf("%d bytes came before the cut, %d after", came, sent)
				if came < 1<<20 || sent > uint64(len(blob))-came+100 {
					t.Errorf("%d bytes came before the cut, yet %d of %d were sent again", came, sent, len(blob))
				}
			})
		})
	}
}

// TestControlDoesNotWaitBehindBulk sends a heartbeat every second up a link of
// 1 Mbit/s that is full of slabs. With the limit a little below the link's rate
// a heartbeat stands behind a packet or two; without one, behind the slabs that
// wait in the router.
func TestControlDoesNotWaitBehindBulk(t *testing.T) {
	for up, most := range map[int]time.Duration{900_000: 100 * time.Millisecond, 0: time.Second} {
		t.Run(fmt.Sprint(up), func(t *testing.T) {
			swarmtest.Run(t, func(t *testing.T) {
				link := home
				link.Up = 1_000_000
				network := swarmtest.New(t, link)
				giver := network.Host(newHandler(make([]byte, 2_000_000)), func(c *swarm.Config) { c.Up = up })
				heard := newHandler(nil)
				taker := network.Host(heard, nil)
				if err := taker.Connect(t.Context(), giver.ID(), giver.Addrs()); err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() {
					_, err := taker.Fetch(t.Context(), giver.ID(), wire.ClassContribution, []byte("slabs"), 2_000_000)
					done <- err
				}()
				var worst time.Duration
				for i := range 12 {
					time.Sleep(time.Second)
					sent := time.Now()
					if err := giver.Send(taker.ID(), fmt.Appendf(nil, "heartbeat %d", i)); err != nil {
						t.Fatal(err)
					}
					for heard.count(giver.ID()) <= i {
						time.Sleep(time.Millisecond)
					}
					worst = max(worst, time.Since(sent))
				}
				t.Logf("a heartbeat took at most %s", worst)
				if worst > most {
					t.Errorf("a heartbeat took %s, want at most %s", worst, most)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
