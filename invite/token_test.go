package invite

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"dunlin/wire"
)

func example() *Token {
	return &Token{
		Run: wire.Hash{1, 2, 3}, Name: "evening run", Coordinator: wire.PeerID{4, 5, 6},
		Addrs:  []string{"/ip4/192.0.2.1/tcp/4001", "/ip4/192.0.2.1/udp/4001/quic-v1"},
		Secret: []byte("0123456789abcdef"),
	}
}

// seal makes the text of a body that no Token would encode to.
func seal(body []byte) string {
	raw := append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...)
	sum := sha256.Sum256(raw)
	return prefix + encoding().EncodeToString(append(raw, sum[:sumSize]...))
}

func TestTokenReadsBack(t *testing.T) {
	public := example()
	public.Secret, public.Name, public.Addrs = nil, "", public.Addrs[:1]
	for _, want := range []*Token{example(), public} {
		text := want.String()
		if strings.ContainsAny(text, " \n") || !strings.HasPrefix(text, "dunlin1:") {
			t.Errorf("%q is not one line of text", text)
		}
		for _, form := range []string{
			text, strings.ToUpper(text), "  " + text[:20] + "\n" + text[20:] + "\r\n",
			want.Link("https://example.org/join"), "https://example.org/#dunlin1%3A" + text[len(prefix):],
			"dunlin:" + text, "dunlin://" + text,
		} {
			got, err := Parse(form)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%q: %+v, %v", form, got, err)
			}
		}
	}
}

// TestFormat pins the bytes: invites that people hold must stay good.
func TestFormat(t *testing.T) {
	token := &Token{Run: wire.Hash{1}, Coordinator: wire.PeerID{2}, Addrs: []string{"/dns/a/tcp/1"}}
	const want = "dunlin1:ablkgakyeaaqaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2yeabaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabebnqxwi3ttf5qs65ddoaxtdo7helgq"
	if got := token.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEverySlipIsNoticed(t *testing.T) {
	text := example().String()
	for i := len(prefix); i < len(text); i++ {
		for _, wrong := range []string{
			text[:i] + string(alphabet[(strings.IndexByte(alphabet, text[i])+1)%32]) + text[i+1:], // mistyped
			text[:i] + text[i+1:],             // left out
			text[:i] + text[i:i+1] + text[i:], // doubled
			text[:i],                          // cut off
		} {
			if wrong == text {
				continue
			}
			if token, err := Parse(wrong); err == nil && !reflect.DeepEqual(token, example()) {
				t.Fatalf("%q was read as %+v", wrong, token)
			}
		}
	}
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		b := []byte(text)
		i, j := len(prefix)+rng.IntN(len(b)-len(prefix)), len(prefix)+rng.IntN(len(b)-len(prefix))
		if b[i] == b[j] {
			continue
		}
		b[i], b[j] = b[j], b[i]
		if _, err := Parse(string(b)); err == nil {
			t.Fatalf("swapped characters %d and %d were not noticed (seed %d)", i, j, seed)
		}
	}
}

func TestErrorsHelp(t *testing.T) {
	text := example().String()
	noAddrs, badAddr, noRun, badName := example(), example(), example(), example()
	noAddrs.Addrs = nil
	badAddr.Addrs = []string{"localhost:4001"}
	noRun.Run = wire.Hash{}
	badName.Name = "a\x1b[2Jb"
	for name, test := range map[string]struct{ text, want string }{
		"empty":           {" \n", "empty"},
		"other text":      {"hello", "does not begin with dunlin1:"},
		"newer version":   {"dunlin2:abcdef", "version 2"},
		"newer link":      {"https://example.org/#dunlin17:abcdef", "version 17"},
		"bare link":       {"https://example.org/join", "after #"},
		"prefix only":     {"dunlin1:", "cut off"},
		"cut":             {text[:len(text)-5], "cut off"},
		"cut short":       {text[:len(prefix)+1], "cut off"},
		"mistyped":        {text[:40] + swap(text[40]) + text[41:], "copy it again"},
		"too many":        {text + "a234", "too many"},
		"foreign letter":  {text[:40] + "0" + text[41:], `'0' cannot be part`},
		"very long":       {prefix + strings.Repeat("a", MaxText), "too many"},
		"no addresses":    {noAddrs.String(), "0 addresses"},
		"no multiaddress": {badAddr.String(), `"localhost:4001" is not an address`},
		"no run":          {noRun.String(), "no run"},
		"control letters": {badName.String(), "printable"},
		"not a token":     {seal([]byte{0x80}), "made wrongly"},
		"empty body":      {seal(nil), "made wrongly"},
	} {
		if _, err := Parse(test.text); err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "invite: ") {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func swap(b byte) string {
	if b == 'a' {
		return "b"
	}
	return "a"
}

func FuzzParse(f *testing.F) {
	f.Add(example().String())
	f.Add(example().Link("https://example.org/"))
	f.Add("dunlin:" + example().String()[:50])
	f.Add("dunlin2:abc")
	f.Add(seal(bytes.Repeat([]byte{0x9f}, 40)))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(token.String())
		if err != nil || !reflect.DeepEqual(again, token) {
			t.Fatalf("%q: %+v became %+v, %v", text, token, again, err)
		}
	})
}
