package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// Loopback is the address a page listens on unless told otherwise: this machine
// only, any free port.
const Loopback = "127.0.0.1:0"

// minToken is the shortest token that is not guessed; crypto/rand.Text makes
// one of 26.
const minToken = 16

// Config says where the page is.
type Config struct {
	// Listen is host:port; empty is Loopback. Any other host than loopback
	// needs a Token.
	Listen string
	// Token lets a visitor read, and nothing else: at least 16 characters out
	// of A-Z a-z 0-9 - _, or empty.
	Token string
	// Entry tells all of a ledger entry; nil where there is no ledger. Its error
	// is shown to the visitor.
	Entry func(ctx context.Context, height uint64) (*EntryDetail, error)
	// Change takes what the owner asks of this machine's peer, from pages on
	// loopback only; nil where nothing can be changed. Several calls may run at
	// a time; the error is shown to the owner.
	Change func(context.Context, Change) error
	// Logger gets what goes wrong while serving; nil drops it.
	Logger *slog.Logger
}

// Validate says what is wrong with the configuration and what is allowed.
func (c Config) Validate() error {
	listen := c.listen()
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("status page: listen address %q: want host:port, as in 127.0.0.1:7310", listen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("status page: listen address %q: the port must be 0 (any free one) to 65535", listen)
	}
	for _, r := range c.Token {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return errors.New("status page: token: only the characters A-Z a-z 0-9 - _ are allowed")
		}
	}
	switch {
	case c.Token == "" && !loopbackHost(host):
		return fmt.Errorf("status page: listen address %q lets other machines in: that needs a token; give one, or listen on %s", listen, Loopback)
	case c.Token != "" && len(c.Token) < minToken:
		return fmt.Errorf("status page: token: want at least %d characters, have %d", minToken, len(c.Token))
	}
	return nil
}

func (c Config) listen() string {
	if c.Listen == "" {
		return Loopback
	}
	return c.Listen
}

func (c Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// loopbackHost tells whether a host, without port, can only mean this machine.
// Names are not looked up: a foreign name may resolve to anything at any time.
func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// windowsAddressInUse is WSAEADDRINUSE, which package syscall does not map.
const windowsAddressInUse = syscall.Errno(10048)

// open listens, or says what to do about it.
func open(listen string) (net.Listener, error) {
	l, err := net.Listen("tcp", listen)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, windowsAddressInUse):
		return nil, fmt.Errorf("status page: %s is taken by another program, perhaps by another dunlin: stop that one, or choose another address, for example %s for any free port: %w", listen, Loopback, err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("status page: this user may not listen on %s: choose a port above 1023: %w", listen, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("status page: this machine has no address %s: choose one of its own, or %s: %w", listen, Loopback, err)
	}
	return nil, fmt.Errorf("status page: listen on %s: %w", listen, err)
}
