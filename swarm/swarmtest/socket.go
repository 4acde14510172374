package swarmtest

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/marcopolo/simnet"
)

// attachment is one host's swarm.PacketNetwork: sockets that share one link.
// simnet gives every socket a link of its own, so a host has one of its sockets,
// and the ports of both ends go along in front of each packet.
type attachment struct {
	network *Network
	ip      net.IP
	link    *simnet.SimConn

	mu      sync.Mutex
	sockets map[int]*socket
	reading bool
}

// portBytes go in front of each packet: the sender's port and the receiver's.
const portBytes = 4

// SourceIP implements swarm.PacketNetwork.
func (a *attachment) SourceIP() net.IP { return a.ip }

// ListenPacket implements swarm.PacketNetwork.
func (a *attachment) ListenPacket(addr *net.UDPAddr) (net.PacketConn, error) {
	if !addr.IP.Equal(a.ip) {
		return nil, fmt.Errorf("listen on %s: this host has the address %s only", addr.IP, a.ip)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sockets[addr.Port] != nil {
		return nil, fmt.Errorf("listen on %s: the port is taken", addr)
	}
	s := &socket{
		attachment: a, addr: &net.UDPAddr{IP: a.ip, Port: addr.Port},
		packets: make(chan packet, 256), closed: make(chan struct{}), expired: make(chan struct{}),
	}
	a.sockets[addr.Port] = s
	if !a.reading {
		a.reading = true
		go a.read()
	}
	return s, nil
}

// read gives packets to the sockets until the network or the last socket ends.
func (a *attachment) read() {
	buf := make([]byte, 2048)
	for {
		n, from, err := a.link.ReadFrom(buf)
		if err != nil {
			return
		}
		sender, ok := from.(*net.UDPAddr)
		if !ok || n < portBytes {
			continue
		}
		a.mu.Lock()
		s := a.sockets[int(binary.BigEndian.Uint16(buf[2:]))]
		a.mu.Unlock()
		if s == nil {
			continue
		}
		p := packet{from: &net.UDPAddr{IP: sender.IP, Port: int(binary.BigEndian.Uint16(buf))}, bytes: append([]byte(nil), buf[portBytes:n]...)}
		select {
		case s.packets <- p:
		case <-s.closed:
		}
	}
}

// leave takes a socket away, and with the last one the link.
func (a *attachment) leave(port int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sockets, port)
	if len(a.sockets) == 0 {
		return a.link.Close()
	}
	return nil
}

type packet struct {
	from  *net.UDPAddr
	bytes []byte
}

// socket is one port of a host.
type socket struct {
	attachment *attachment
	addr       *net.UDPAddr
	packets    chan packet
	closed     chan struct{}
	once       sync.Once

	mu      sync.Mutex
	expired chan struct{} // closed when the read deadline has passed
	timer   *time.Timer
}

// WriteTo implements net.PacketConn.
func (s *socket) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("send to %s: no UDP address", addr)
	}
	a := s.attachment
	if a.network.drops(s.addr, to) {
		return len(b), nil // simnet itself never loses a packet
	}
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, portBytes+len(b)), uint16(s.addr.Port))
	framed = append(binary.BigEndian.AppendUint16(framed, uint16(to.Port)), b...)
	if _, err := a.link.WriteTo(framed, &net.UDPAddr{IP: to.IP, Port: port}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// ReadFrom implements net.PacketConn.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	s.mu.Lock()
	expired := s.expired
	s.mu.Unlock()
	select {
	case <-s.closed:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case p := <-s.packets:
		return copy(b, p.bytes), p.from, nil
	}
}

// SetReadDeadline implements net.PacketConn.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	select {
	case <-s.expired:
		s.expired = make(chan struct{})
	default:
	}
	if !t.IsZero() {
		s.timer = time.AfterFunc(max(time.Until(t), 0), s.expire)
	}
	return nil
}

func (s *socket) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.expired:
	default:
		close(s.expired)
	}
}

// Close implements net.PacketConn.
func (s *socket) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		close(s.closed)
		err = s.attachment.leave(s.addr.Port)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.timer != nil {
			s.timer.Stop()
		}
	})
	return err
}

// LocalAddr implements net.PacketConn.
func (s *socket) LocalAddr() net.Addr { return s.addr }

// SetDeadline implements net.PacketConn; writes never wait.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }
