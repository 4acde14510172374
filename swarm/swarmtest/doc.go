// Package swarmtest runs real swarm hosts on a simulated network in virtual
// time: QUIC over github.com/marcopolo/simnet inside a testing/synctest bubble,
// with delay, bandwidth, loss, cuts and sudden deaths.
//
//	swarmtest.Run(t, func(t *testing.T) {
//		network := swarmtest.New(t, swarmtest.Link{RTT: 50 * time.Millisecond, Up: 10e6, Down: 10e6})
//		a := network.Host(handler, nil)
//		…
//	})
//
// Hours pass in seconds and sleeps are exact, but goroutine order and the keys
// of handshakes vary between runs: assert properties, not transcripts.
package swarmtest
