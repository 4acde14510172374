package swarm

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	connrate "github.com/libp2p/go-libp2p/x/rate"

	"dunlin/wire"
)

// Limits bounds everything a remote can make this host hold or wait for.
type Limits struct {
	Conns         int // connections in all
	ConnsPerPeer  int // connections to one peer; both sides dialling at once makes two
	ConnsPerHost  int // connections from one IPv4 address or IPv6 /56; loopback is exempt
	Remembered    int // peers that Connect keeps dialling
	Memory        int // bytes that all streams may hold
	MemoryPerPeer int // bytes that the streams of one peer may hold

	Message    int // bytes of one control message
	Queue      int // control messages waiting for one peer
	QueueBytes int // bytes of those
	QueueTotal int // bytes of control messages waiting in all

	MessageRate  float64 // control messages a second that a peer may send for long
	MessageBurst int     // control messages it may send at once
	ByteRate     float64 // the same in bytes a second
	ByteBurst    int     // bytes

	Request      int // bytes of one bulk request
	Fetches      int // own requests open to one peer; more wait for their turn
	Serves       int // requests of one peer answered at a time; more are told "busy"
	ServesTotal  int // requests of all peers answered at a time
	RefusalBytes int // bytes of a refusal's text
	Passing      int // bytes of one message between stages of a pipeline
	Partials     int // bytes kept of answers whose transfer broke

	Dial       time.Duration // one attempt to connect, identification included
	BackoffMin time.Duration // wait after the first failed attempt; doubles
	BackoffMax time.Duration // longest wait between attempts
	Answer     time.Duration // from the request to the first byte of the answer
	Stall      time.Duration // a transfer without a byte for so long has failed
	Silence    time.Duration // a peer of whom something is awaited is dead after so long without a sign of life
	Write      time.Duration // a control message or a chunk of bulk that the remote does not take
	Serve      time.Duration // one call of Handler.Serve
	Idle       time.Duration // silence after which a TCP connection is asked whether it stands; it is dead ten seconds later
	QUICIdle   time.Duration // silence after which a QUIC connection is dead; noticed within 4/3 of it
	Shun       time.Duration // how long a peer that was cut off stays out
}

// DefaultLimits suits a volunteer's machine: some 64 peers in its rounds, links of a few Mbit/s.
func DefaultLimits() Limits {
	return Limits{
		Conns:         512,
		ConnsPerPeer:  8,
		ConnsPerHost:  64,
		Remembered:    1024,
		Memory:        512 << 20,
		MemoryPerPeer: 64 << 20,

		Message:    wire.MaxMessage,
		Queue:      1024,
		QueueBytes: 8 << 20,
		QueueTotal: 64 << 20,

		MessageRate:  500,
		MessageBurst: 5000,
		ByteRate:     4 << 20,
		ByteBurst:    32 << 20,

		Request:      64 << 10,
		Fetches:      16,
		Serves:       32,
		ServesTotal:  256,
		RefusalBytes: 512,
		Passing:      16 << 20,
		Partials:     128 << 20,

		Dial:       10 * time.Second,
		BackoffMin: 200 * time.Millisecond,
		BackoffMax: 15 * time.Second,
		Answer:     10 * time.Second,
		Stall:      3 * time.Second,
		Silence:    2500 * time.Millisecond,
		Write:      30 * time.Second,
		Serve:      30 * time.Second,
		Idle:       10 * time.Second,
		QUICIdle:   6 * time.Second,
		Shun:       time.Minute,
	}
}

// HubLimits suits a coordinator's machine, to which every peer of a run connects.
func HubLimits() Limits {
	l := DefaultLimits()
	l.Conns = 12_000
	l.Memory = l.Conns << 20 // what may be in the windows of their streams, not what is
	l.Remembered = 12_000    // who starts again looks for the members in its log
	l.QueueTotal = 256 << 20
	l.Idle = 30 * time.Second // members send heartbeats more often, so that none has to be asked
	return l
}

// Validate reports every value outside its range.
func (l Limits) Validate() error {
	var faults []error
	check := func(name string, value, low, high float64) {
		if !(value >= low && value <= high) {
			faults = append(faults, fmt.Errorf("limits: %s is %g, want %g to %g", name, value, low, high))
		}
	}
	const gib = 1 << 30
	check("Conns", float64(l.Conns), 4, 1<<16)
	check("ConnsPerPeer", float64(l.ConnsPerPeer), 2, 64)
	check("ConnsPerHost", float64(l.ConnsPerHost), 2, 1<<16)
	check("Remembered", float64(l.Remembered), 1, 1<<16)
	check("Memory", float64(l.Memory), 8<<20, 64*gib)
	check("MemoryPerPeer", float64(l.MemoryPerPeer), 4<<20, float64(l.Memory))
	check("Message", float64(l.Message), 1, wire.MaxMessage)
	check("Queue", float64(l.Queue), 1, 1<<20)
	check("QueueBytes", float64(l.QueueBytes), float64(l.Message), gib)
	check("QueueTotal", float64(l.QueueTotal), float64(l.QueueBytes), 16*gib)
	check("MessageRate", l.MessageRate, 1, 1e6)
	check("MessageBurst", float64(l.MessageBurst), 1, 1e7)
	check("ByteRate", l.ByteRate, 1<<10, gib)
	check("ByteBurst", float64(l.ByteBurst), float64(l.Message), gib)
	check("Request", float64(l.Request), 1, wire.MaxMessage)
	check("Fetches", float64(l.Fetches), 1, 1024)
	check("Serves", float64(l.Serves), 1, 1024)
	check("ServesTotal", float64(l.ServesTotal), float64(l.Serves), 1<<16)
	check("RefusalBytes", float64(l.RefusalBytes), 16, 64<<10)
	check("Passing", float64(l.Passing), 1, float64(l.MemoryPerPeer)/2)
	check("Partials", float64(l.Partials), 0, 16*gib)
	for name, d := range map[string]time.Duration{
		"Dial": l.Dial, "BackoffMin": l.BackoffMin, "BackoffMax": l.BackoffMax, "Answer": l.Answer,
		"Stall": l.Stall, "Silence": l.Silence, "Write": l.Write, "Serve": l.Serve, "Idle": l.Idle, "QUICIdle": l.QUICIdle, "Shun": l.Shun,
	} {
		if d < time.Millisecond || d > time.Hour {
			faults = append(faults, fmt.Errorf("limits: %s is %s, want 1ms to 1h", name, d))
		}
	}
	if l.BackoffMax < l.BackoffMin {
		faults = append(faults, fmt.Errorf("limits: BackoffMax %s is below BackoffMin %s", l.BackoffMax, l.BackoffMin))
	}
	return errors.Join(faults...)
}

// controlResources are the limits of the host for control: a peer needs two
// streams and a few for identify.
func (l Limits) controlResources(control protocol.ID) (network.ResourceManager, error) {
	return l.resources(control, 8, l.Conns*16)
}

// bulkResources are those of the host for bulk: streams count twice, since a
// closed one is there until both ends know.
func (l Limits) bulkResources(bulk protocol.ID) (network.ResourceManager, error) {
	return l.resources(bulk, 2*(l.Serves+l.Fetches), 2*l.ServesTotal+l.Conns*8)
}

// resources is a resource manager of libp2p for a host with one protocol.
func (l Limits) resources(proto protocol.ID, streams, total int) (network.ResourceManager, error) {
	perPeer := streams + 16 + 2*relayCircuits
	bound := func(conns, streams, memory int) rcmgr.ResourceLimits {
		return rcmgr.ResourceLimits{
			Conns: rcmgr.LimitVal(conns), ConnsInbound: rcmgr.LimitVal(conns), ConnsOutbound: rcmgr.LimitVal(conns),
			Streams: rcmgr.LimitVal(streams), StreamsInbound: rcmgr.LimitVal(streams), StreamsOutbound: rcmgr.LimitVal(streams),
			FD: rcmgr.LimitVal(conns), Memory: rcmgr.LimitVal64(memory),
		}
	}
	transient := max(32, l.Conns/4)
	partial := rcmgr.PartialLimitConfig{
		System:              bound(l.Conns, total, l.Memory),
		Transient:           bound(transient, 4*transient, l.Memory/4),
		PeerDefault:         bound(l.ConnsPerPeer, perPeer, l.MemoryPerPeer),
		ProtocolPeerDefault: bound(l.ConnsPerPeer, 8, l.MemoryPerPeer),
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{
			proto: bound(l.ConnsPerPeer, streams, l.MemoryPerPeer),
			// Of a peer that is reached through this one, or reaches others so.
			circuit.ProtoIDv2Hop:  bound(l.ConnsPerPeer, 2*relayCircuits, l.MemoryPerPeer),
			circuit.ProtoIDv2Stop: bound(l.ConnsPerPeer, 2*relayCircuits, l.MemoryPerPeer),
		},
	}
	perHost := connrate.Limit{RPS: 1, Burst: 2 * l.ConnsPerHost}
	return rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(partial.Build(rcmgr.InfiniteLimits)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: l.ConnsPerHost}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: l.ConnsPerHost}},
		),
		rcmgr.WithConnRateLimiters(&connrate.Limiter{
			NetworkPrefixLimits: []connrate.PrefixLimit{
				{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
				{Prefix: netip.MustParsePrefix("::1/128")},
			},
			SubnetRateLimiter: connrate.SubnetLimiter{
				IPv4SubnetLimits: []connrate.SubnetLimit{{PrefixLength: 32, Limit: perHost}},
				IPv6SubnetLimits: []connrate.SubnetLimit{{PrefixLength: 56, Limit: perHost}},
				GracePeriod:      time.Minute,
			},
		}),
	)
}
