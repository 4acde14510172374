package invite

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"dunlin/wire"
)

// Bounds of a token and of the text it is read from, in bytes.
const (
	MaxName    = 64
	MaxAddrs   = 16
	MaxAddr    = 256
	MaxSecret  = 64
	MaxText    = 16 << 10
	scheme     = "dunlin"
	prefix     = "dunlin1:"
	lengthSize = 2
	sumSize    = 4
)

// Token is what an invite says.
type Token struct {
	Run         wire.Hash   `cbor:"1,keyasint"`
	Name        string      `cbor:"2,keyasint,omitempty"` // of the run, for people; at most MaxName bytes
	Coordinator wire.PeerID `cbor:"3,keyasint"`
	Addrs       []string    `cbor:"4,keyasint"`           // multiaddresses of the coordinator, 1 to MaxAddrs
	Secret      []byte      `cbor:"5,keyasint,omitempty"` // admits to a private run; at most MaxSecret bytes
	Relay       bool        `cbor:"6,keyasint,omitempty"` // the coordinator passes control on for peers that cannot be dialled
	// Others are the run's other coordinators, as far as their addresses are known.
	Others []wire.Known `cbor:"7,keyasint,omitempty"`
}

// Validate reports what keeps t from being an invite.
func (t *Token) Validate() error {
	switch {
	case t.Run.IsZero():
		return errors.New("it names no run")
	case t.Coordinator.IsZero():
		return errors.New("it names no coordinator")
	case len(t.Name) > MaxName || !isPlain(t.Name):
		return fmt.Errorf("the run's name must be at most %d bytes of printable text", MaxName)
	case len(t.Addrs) == 0 || len(t.Addrs) > MaxAddrs:
		return fmt.Errorf("it has %d addresses, want 1 to %d", len(t.Addrs), MaxAddrs)
	case len(t.Secret) > MaxSecret:
		return fmt.Errorf("its secret has %d bytes, at most %d are allowed", len(t.Secret), MaxSecret)
	}
	if len(t.Others) >= wire.MaxKeys {
		return fmt.Errorf("it names %d more coordinators, a run has at most %d", len(t.Others), wire.MaxKeys)
	}
	for _, o := range t.Others {
		if o.Peer.IsZero() || o.Peer == t.Coordinator || len(o.Addrs) == 0 || len(o.Addrs) > MaxAddrs {
			return errors.New("one of its coordinators has no name or no address, or is named twice")
		}
		if err := checkAddrs(o.Addrs); err != nil {
			return err
		}
	}
	return checkAddrs(t.Addrs)
}

func checkAddrs(addrs []string) error {
	for _, a := range addrs {
		if !strings.HasPrefix(a, "/") || len(a) > MaxAddr || !isPlain(a) {
			return fmt.Errorf("%.40q is not an address such as /ip4/192.0.2.1/tcp/4001", a)
		}
	}
	return nil
}

// Coordinators lists those that the invite names, each with its addresses.
func (t *Token) Coordinators() []wire.Known {
	return append([]wire.Known{{Peer: t.Coordinator, Addrs: t.Addrs}}, t.Others...)
}

// isPlain keeps control characters, which could fool a reader, out of invites.
func isPlain(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// String returns the token's one line. Anyone who reads it may join, so it
// belongs on the organiser's terminal and in no log. Print valid tokens only.
func (t *Token) String() string {
	body := wire.Encode(t)
	raw := binary.BigEndian.AppendUint16(nil, uint16(len(body)))
	raw = append(raw, body...)
	sum := sha256.Sum256(raw)
	return prefix + encoding().EncodeToString(append(raw, sum[:sumSize]...))
}

// Link returns the token as a link under a page's address.
func (t *Token) Link(page string) string { return page + "#" + t.String() }

// Parse reads a token or a link that holds one. Errors say what is wrong with
// the text in words for the person who pasted it.
func Parse(text string) (*Token, error) {
	t, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	return t, nil
}

func parse(text string) (*Token, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("%d characters are too many; paste only the line that begins with %s", len(text), prefix)
	}
	coded, err := unwrap(text)
	if err != nil {
		return nil, err
	}
	if i := strings.IndexFunc(coded, func(r rune) bool { return !strings.ContainsRune(alphabet, r) }); i >= 0 {
		r, _ := utf8.DecodeRuneInString(coded[i:])
		return nil, fmt.Errorf("%q cannot be part of one; copy it again", r)
	}
	// A cut may leave a last character that completes no byte.
	if extra := len(coded) % 8; extra == 1 || extra == 3 || extra == 6 {
		coded = coded[:len(coded)-1]
	}
	raw, err := encoding().DecodeString(coded)
	if err != nil {
		return nil, fmt.Errorf("it is damaged, copy it again: %w", err)
	}
	if len(raw) < lengthSize {
		return nil, errors.New("it is cut off; copy it whole, up to its end")
	}
	want := lengthSize + int(binary.BigEndian.Uint16(raw)) + sumSize
	if len(raw) < want {
		return nil, fmt.Errorf("it is cut off or mistyped: %d of about %d characters are here; copy it whole, up to its end", len(coded), encoding().EncodedLen(want))
	}
	body, sum := raw[:len(raw)-sumSize], raw[len(raw)-sumSize:]
	if good := sha256.Sum256(body); len(raw) > want || string(sum) != string(good[:sumSize]) {
		return nil, errors.New("a character is wrong, missing or too many; copy it again instead of typing it")
	}
	var t Token
	if err := wire.Decode(body[lengthSize:], &t); err != nil {
		return nil, fmt.Errorf("it was made wrongly, ask the organiser for another: %w", err)
	}
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("it was made wrongly, ask the organiser for another: %w", err)
	}
	return &t, nil
}

// unwrap returns the base32 of a token or link, in lower case and without the
// spaces and line ends that mail programs add.
func unwrap(text string) (string, error) {
	text = strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text))
	if text == "" {
		return "", fmt.Errorf("it is empty; want the line that begins with %s", prefix)
	}
	if strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://") {
		_, after, found := strings.Cut(text, "#")
		if !found {
			return "", errors.New("the link has no part after #, where the invite stands; copy the whole link")
		}
		text = strings.ReplaceAll(after, "%3a", ":")
	}
	text = strings.TrimPrefix(text, scheme+"://")
	text = strings.TrimPrefix(text, scheme+":")
	if coded, ok := strings.CutPrefix(text, prefix); ok {
		return coded, nil
	}
	if version, _, ok := strings.Cut(strings.TrimPrefix(text, scheme), ":"); ok && strings.HasPrefix(text, scheme) && isNumber(version) {
		return "", fmt.Errorf("it is of version %.8s, this program reads version 1; install a newer dunlin", version)
	}
	return "", fmt.Errorf("it does not begin with %s; paste the line that the organiser sent", prefix)
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"

func encoding() *base32.Encoding {
	return base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)
}
