package machine

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"
)

// timeServer answers every question with a clock that is behind this machine's by so much; change may spoil an answer.
func timeServer(t *testing.T, behind time.Duration, change func(packet []byte)) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		var packet [48]byte
		for {
			_, from, err := conn.ReadFrom(packet[:])
			if err != nil {
				return
			}
			copy(packet[24:32], packet[40:48])
			packet[0], packet[1] = 4<<3|4, 2
			for _, b := range [][]byte{packet[32:40], packet[40:48]} {
				now := time.Now().Add(-behind)
				binary.BigEndian.PutUint32(b, uint32(now.Unix()+ntpEpoch))
				binary.BigEndian.PutUint32(b[4:], uint32(uint64(now.Nanosecond())<<32/1e9))
			}
			change(packet[:])
			_, _ = conn.WriteTo(packet[:], from)
		}
	}()
	return conn.LocalAddr().String()
}

func TestClockOffset(t *testing.T) {
	for _, behind := range []time.Duration{0, 3 * time.Minute, -time.Hour} {
		good := timeServer(t, behind, func([]byte) {})
		liar := timeServer(t, 0, func(p []byte) { p[24]++ })
		ahead, server, err := ClockOffset(t.Context(), []string{liar, good})
		if err != nil || server != good || (ahead-behind).Abs() > time.Second {
			t.Errorf("ahead by %v of %s, %v; want %v of %s", ahead, server, err, behind, good)
		}
	}
	lost := timeServer(t, 0, func(p []byte) { p[1] = 0 })
	if _, _, err := ClockOffset(t.Context(), []string{lost}); err == nil || !strings.Contains(err.Error(), "does not know the time") {
		t.Errorf("a server without the time: %v", err)
	}
}

func FuzzParseClock(f *testing.F) {
	f.Add(make([]byte, 48))
	f.Add([]byte{4<<3 | 4, 2})
	f.Fuzz(func(_ *testing.T, packet []byte) {
		now := time.Unix(1_777_000_000, 0)
		_, _ = parseClock(packet, [8]byte{}, now, now)
	})
}
