package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Host is one machine of a Network: a namespace with an interface.
type Host struct {
	network *Network
	number  int
	addr    netip.Addr
	tun     *os.File
	queue   syscall.RawConn // of tun
	jobs    chan func()
	ended   chan struct{}

	mu        sync.Mutex
	processes []*exec.Cmd
}

// available tells whether a namespace can be made here.
func available() error {
	if os.Geteuid() != 0 {
		return ErrUnavailable
	}
	h, err := newHost(netip.AddrFrom4([4]byte{10, 77, 0, 254}))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return h.close()
}

// newHost gives a thread a namespace of its own. The thread serves the host's jobs and dies with it.
func newHost(addr netip.Addr) (*Host, error) {
	h := &Host{addr: addr, jobs: make(chan func()), ended: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(h.ended)
		runtime.LockOSThread() // and never unlocked: the thread, which is elsewhere now, ends with this goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.tun, err = openTUN(addr)
		}
		if err == nil {
			h.queue, err = h.tun.SyscallConn()
		}
		ready <- err
		if err != nil {
			return
		}
		for job := range h.jobs {
			job()
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("make host %s: %w", addr, err)
	}
	return h, nil
}

// sent reads the next packet of IPv4 to this network that the host has sent, or nil when there is none, or the host is closed.
func (h *Host) sent(buffer []byte) []byte {
	for {
		size, err := 0, error(nil)
		if h.queue.Read(func(fd uintptr) bool {
			size, err = unix.Read(int(fd), buffer) // does not wait, as the interface was opened
			return true
		}) != nil || err != nil {
			return nil
		}
		if packet := buffer[:size]; size >= 20 && packet[0]>>4 == 4 && packet[16] == 10 && packet[17] == 77 {
			return packet
		}
	}
}

// Addr is the host's address.
func (h *Host) Addr() netip.Addr { return h.addr }

// Do calls f on a thread inside the host: sockets that it makes and processes that it starts belong there.
func (h *Host) Do(f func() error) error {
	result := make(chan error)
	h.jobs <- func() { result <- f() }
	return <-result
}

// Start starts a process in the host. It is killed with the network at the latest; the caller waits for it.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // the thread lives as long as the host
	err := h.Do(cmd.Start)
	if err == nil {
		h.mu.Lock()
		h.processes = append(h.processes, cmd)
		h.mu.Unlock()
	}
	return err
}

// Dial connects from inside the host.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// SetPath changes the host's link.
func (h *Host) SetPath(p Path) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.network.middle.paths[h.number] = p
}

// Count returns what the host's link has carried.
func (h *Host) Count() Count {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	return h.network.middle.counts[h.number]
}

// close ends the host and its processes.
func (h *Host) close() error {
	h.mu.Lock()
	for _, p := range h.processes {
		_ = p.Process.Kill() // most have ended
	}
	h.mu.Unlock()
	close(h.jobs)
	<-h.ended
	return h.tun.Close()
}

// openTUN makes an interface with an address in 10.77.0.0/24 and brings it and the loopback up.
func openTUN(addr netip.Addr) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := configure(fd, addr); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "tun "+addr.String()), nil
}

func configure(fd int, addr netip.Addr) error {
	const name = "tun0"
	attach, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	attach.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, attach); err != nil {
		return fmt.Errorf("make interface: %w", err)
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(control) }() // it held nothing
	address := addr.As4()
	for _, s := range []struct {
		iface   string
		request uint
		fill    func(*unix.Ifreq) error
	}{
		{name, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(address[:]) }},
		{name, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{name, unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(MTU); return nil }},
		{name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
		{"lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		r, err := unix.NewIfreq(s.iface)
		if err == nil {
			err = s.fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(control, s.request, r)
		}
		if err != nil {
			return fmt.Errorf("configure %s: %w", s.iface, err)
		}
	}
	return nil
}
