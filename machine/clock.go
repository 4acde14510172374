package machine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// TimeServers are asked for the time.
func TimeServers() []string {
	return []string{"pool.ntp.org:123", "time.cloudflare.com:123", "time.google.com:123"}
}

// clockWithin bounds the wait for one time server.
const clockWithin = 2 * time.Second

// ClockOffset asks time servers, one after another until one answers, how far this machine's clock is ahead of theirs.
func ClockOffset(ctx context.Context, servers []string) (ahead time.Duration, server string, err error) {
	var errs []error
	for _, server := range servers {
		ahead, err := askClock(ctx, server)
		if err == nil {
			return ahead, server, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", server, err))
	}
	return 0, "", errors.Join(errs...)
}

// ntpEpoch is 1900-01-01 in seconds before 1970-01-01.
const ntpEpoch = 2_208_988_800

// askClock speaks SNTP (RFC 4330): one packet of 48 bytes each way.
func askClock(ctx context.Context, server string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, clockWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", server)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	var packet [48]byte
	packet[0] = 4<<3 | 3 // version 4, a client
	sent := time.Now()
	binary.BigEndian.PutUint64(packet[40:], uint64(sent.UnixNano())) // a mark that the answer repeats
	mark := [8]byte(packet[40:])
	if _, err := conn.Write(packet[:]); err != nil {
		return 0, err
	}
	n, err := conn.Read(packet[:])
	if err != nil {
		return 0, err
	}
	return parseClock(packet[:n], mark, sent, time.Now())
}

// parseClock reads an answer that came between two moments of this machine's clock.
func parseClock(packet []byte, mark [8]byte, sent, came time.Time) (time.Duration, error) {
	switch {
	case len(packet) < 48 || packet[0]&7 != 4 || [8]byte(packet[24:32]) != mark:
		return 0, errors.New("its answer is none to this question")
	case packet[0]>>6 == 3 || packet[1] == 0 || packet[1] > 15:
		return 0, errors.New("it does not know the time itself")
	}
	at := func(b []byte) time.Time {
		return time.Unix(int64(binary.BigEndian.Uint32(b))-ntpEpoch, int64(binary.BigEndian.Uint32(b[4:]))*1e9>>32)
	}
	in, out := at(packet[32:40]), at(packet[40:48])
	return (sent.Sub(in) + came.Sub(out)) / 2, nil
}
