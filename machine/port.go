package machine

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// TryPort takes a port of a host, or of all of this machine's addresses, for a moment.
func TryPort(host string, port int) error {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	return errors.Join(udp.Close(), tcp.Close())
}

// TryPorts tells whether a port and the next one are free on all of this machine's addresses.
func TryPorts(port int) bool {
	return port > 0 && port < 1<<16-1 && TryPort("", port) == nil && TryPort("", port+1) == nil
}

// FreePorts returns a port that is free, as the next one is, where systems draw none for connections that leave; 0 when it
// finds none. Another program may take it meanwhile.
func FreePorts() int {
	for range 100 {
		if port := 20_000 + rand.IntN(10_000); TryPorts(port) {
			return port
		}
	}
	return 0
}
