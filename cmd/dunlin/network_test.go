package main

import (
	"slices"
	"testing"

	"dunlin/invite"
	"dunlin/wire"
)

// TestInvitesFollowTheMachine: an invite names the addresses at which others reach the machine now.
func TestInvitesFollowTheMachine(t *testing.T) {
	d := &desk{token: invite.Token{Run: wire.Hash{1}, Coordinator: wire.PeerID{2}, Addrs: []string{"/ip4/192.168.1.7/tcp/4001"}}}
	if d.moved([]string{"/ip4/192.168.1.7/tcp/4001/p2p/x"}) || d.moved(nil) {
		t.Error("nothing has changed, or nothing is known")
	}
	now := []string{"/ip4/192.168.1.7/tcp/4001", "/ip4/203.0.113.7/tcp/4001"}
	if !d.moved([]string{now[0] + "/p2p/x", now[1] + "/p2p/x"}) || !slices.Equal(d.token.Addrs, now) {
		t.Errorf("a router opened a port: %q", d.token.Addrs)
	}
}

func TestOnlyNear(t *testing.T) {
	near := []string{"/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.7/tcp/4001", "/ip6/fd00::2/udp/4001/quic-v1", "/ip4/100.64.1.1/tcp/4001"}
	if !onlyNear(near) {
		t.Errorf("%q lead here from elsewhere", near)
	}
	for _, far := range []string{"/ip4/203.0.113.7/tcp/4001", "/ip6/2001:db8::7/tcp/4001", "/dns/dunlin.example.org/tcp/4001"} {
		if onlyNear(append(near, far)) {
			t.Errorf("%s leads nowhere", far)
		}
	}
}
