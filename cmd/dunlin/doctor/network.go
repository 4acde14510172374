package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"dunlin/machine"
	"dunlin/status"
	"dunlin/swarm"
)

// Ports tries the ports that join would take: the swarm's and the next, 0 for any, and the page's address.
func Ports(port int, listen string) []status.Finding {
	ports := status.Finding{Name: "ports", State: status.OK, Detail: "any free one; --port names one that a router can forward"}
	if port != 0 {
		ports.Detail = fmt.Sprintf("TCP and UDP %d and %d are free", port, port+1)
		for _, p := range []int{port, port + 1} {
			if err := machine.TryPort("", p); err != nil {
				ports.State, ports.Detail = status.Fail, err.Error()
				ports.Mend = fmt.Sprintf("stop the program that has it (ss -lntup sport = :%d shows it), or choose another --port", p)
				break
			}
		}
	}
	page := status.Finding{Name: "page", State: status.OK, Detail: listen + " is free"}
	if listen == status.Loopback {
		page.Detail = "any free port of this machine"
	}
	server, err := status.New(status.Config{Listen: listen})
	if err != nil {
		page.State, page.Detail, page.Mend = status.Fail, err.Error(), "join with --listen "+status.Loopback+", or another port"
	} else if err := server.Close(); err != nil {
		page.State, page.Detail = status.Warn, err.Error()
	}
	return append([]status.Finding{ports, page}, lookBuffers()...)
}

// wantBuffer is what QUIC wants of the kernel for fast links, bytes (quic-go's documentation on UDP buffers).
const wantBuffer = 7_500_000

// lookBuffers looks at Linux's bound on socket buffers.
func lookBuffers() []status.Finding {
	b, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		return nil // only Linux has it
	}
	bytes, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil
	}
	f := status.Finding{Name: "udp buffers", State: status.OK, Detail: "up to " + status.Bytes(float64(bytes))}
	if bytes < wantBuffer {
		f.State, f.Detail = status.Warn, f.Detail+"; links beyond some 100 Mbit/s want "+status.Bytes(wantBuffer)
		f.Mend = fmt.Sprintf("sudo sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d", wantBuffer, wantBuffer)
	}
	return []status.Finding{f}
}

// Clock compares this machine's clock with time servers.
func Clock(ctx context.Context, servers []string) status.Finding {
	ahead, server, err := machine.ClockOffset(ctx, servers)
	return JudgeClock(ahead, server, err)
}

// clockSlack is how wrong a clock may be before times on the page mislead; training itself goes by durations.
const clockSlack = 2 * time.Second

// JudgeClock judges a clock that is so far ahead of a server's, or that none told of.
func JudgeClock(ahead time.Duration, server string, err error) status.Finding {
	f := status.Finding{Name: "clock", State: status.OK, Detail: "right within " + clockSlack.String() + " by " + server}
	switch {
	case err != nil:
		f.State, f.Detail = status.Warn, "no time server answers over UDP, so that nobody says whether it is right"
		f.Mend = "compare the output of date -u with another clock; a firewall that lets UDP port 123 out lets dunlin ask"
	case ahead.Abs() > clockSlack:
		way := "ahead"
		if ahead < 0 {
			way = "behind"
		}
		f.State, f.Detail = status.Warn, fmt.Sprintf("%s %s by %s: times on the page and in logs are wrong, training is not", status.Duration(ahead.Abs().Seconds()), way, server)
		f.Mend = map[string]string{
			"darwin": "sudo sntp -sS time.apple.com", "windows": "w32tm /resync, as an administrator",
		}[runtime.GOOS]
		if f.Mend == "" {
			f.Mend = "sudo timedatectl set-ntp true"
		}
	}
	return f
}

// judgeOffline says what it means that no way leads to the internet; answered, that the run's coordinator was reached.
func judgeOffline(err error, answered bool) status.Finding {
	if answered {
		return status.Finding{Name: "network", State: status.Warn, Detail: err.Error(), Mend: "a run within this network needs none; peers elsewhere cannot be reached"}
	}
	return status.Finding{Name: "network", State: status.Fail, Detail: err.Error(), Mend: "connect this machine to the internet"}
}

// Router asks how others reach this machine at a port, 0 for any; nat says that a router may be asked to open it, answered
// that the run's coordinator was reached.
func Router(ctx context.Context, nat bool, port int, answered bool) []status.Finding {
	local, err := LocalAddress()
	if err != nil {
		return []status.Finding{judgeOffline(err, answered)}
	}
	network := status.Finding{Name: "network", State: status.OK, Detail: "leaves by " + local.String()}
	var router swarm.Router
	if nat && Private(local) {
		if router, err = swarm.FindRouter(ctx, OutsidePort(port)); err != nil {
			return []status.Finding{network, {Name: "router", State: status.Warn, Detail: err.Error(), Mend: forwardMend(port, local)}}
		}
	}
	return []status.Finding{network, judgeRouter(local, router, nat, port)}
}

// OutsidePort is the one that a router is asked to open for a moment.
func OutsidePort(port int) int {
	if port != 0 {
		return port
	}
	return 40_000 + os.Getpid()%20_000
}

// LocalAddress is the address that packets to the internet leave from; none is sent.
func LocalAddress() (netip.Addr, error) {
	conn, err := net.Dial("udp", "192.0.2.1:9") // reserved for documentation (RFC 5737)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no way to the internet: %w", err)
	}
	defer conn.Close()
	at, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return at.Addr(), err
}

// Private tells whether an address cannot be reached from everywhere: a home network's, or a provider's own (RFC 6598).
func Private(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || netip.MustParsePrefix("100.64.0.0/10").Contains(a)
}

func judgeRouter(local netip.Addr, router swarm.Router, asked bool, port int) status.Finding {
	f := status.Finding{Name: "router", State: status.OK}
	switch {
	case !Private(local):
		f.Detail = "none: " + local.String() + " can be reached from everywhere unless a firewall forbids it"
	case !asked:
		f.State, f.Detail, f.Mend = status.Warn, "not asked, for --nat is off", forwardMend(port, local)
	case router.Mapped && router.Outside.IsValid() && Private(router.Outside):
		f.State, f.Detail = status.Warn, "opens ports, but stands behind another one ("+router.Outside.String()+" outside)"
		f.Mend = "nothing has to be done: holes are punched; ask the provider for an address of your own to be reached directly"
	case router.Mapped:
		f.Detail = "opens ports on request"
		if router.Outside.IsValid() {
			f.Detail += "; outside it is " + router.Outside.String()
		}
	default:
		f.State, f.Detail, f.Mend = status.Warn, "answers neither UPnP nor NAT-PMP: others reach this machine by punched holes or a relay", forwardMend(port, local)
	}
	return f
}

func forwardMend(port int, local netip.Addr) string {
	if port == 0 {
		port = 4001
	}
	return fmt.Sprintf("turn on UPnP in the router, or forward TCP and UDP %d and %d to %s there and join with --port %d (a coordinator also with --address and the router's address outside)", port, port+1, local, port)
}
