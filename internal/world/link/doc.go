// Package link gives tests real network interfaces behind links that are slow, far, lossy or cut.
//
// A Network makes hosts, each a network namespace of its own with one TUN interface, and routes packets between them:
// every packet waits its turn at the sender's uplink and at the receiver's downlink, travels for the delays of both, and
// may be lost, overtaken or cut off on its way. Processes started in a host see a machine with the kernel's own TCP and
// UDP behind such a link.
//
//	network, err := link.New(seed)
//	a, err := network.Host(link.Path{Up: 5e6, Down: 20e6, Delay: 25 * time.Millisecond, Loss: 0.001})
//	err = a.Start(exec.Command(binary, "join", invite))
//
// It needs Linux and the right to make namespaces (root); elsewhere New returns ErrUnavailable. What a packet meets is
// decided in path.go without a clock; the rest moves bytes.
package link
