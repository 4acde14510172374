package machine

import (
	"errors"
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
