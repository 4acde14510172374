package figures

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"dunlin/status"
	"dunlin/store"
	"dunlin/wire"
)

// Bounds of the leaderboard: whom it counts, and whom a snapshot shows.
const (
	maxGivers = 10_000
	maxThanks = 100
	maxSlots  = 4 * maxGivers // slots whose peers are remembered
)

// Thanks counts what each peer gave a run: tokens of its contributions in commits. It follows the ledger, so every
// peer that has followed it from the same height counts the same, and it is kept beside the checkpoints, since commits
// before them are let go.
type Thanks struct {
	path   string
	since  uint64 // height of the first commit counted
	height uint64 // of the newest
	newest int    // contributors of that commit; 0 before this process has seen one
	given  map[wire.PeerID]*gift
	slots  map[wire.Slot]wire.PeerID
	oldest wire.Slot // that slots may hold
}

// gift is what one peer gave.
type gift struct {
	Tokens  uint64 `json:"tokens"`
	Commits uint64 `json:"commits"`
}

// thanksFile is the file's form.
type thanksFile struct {
	Since  uint64           `json:"since"`
	Height uint64           `json:"height"`
	Given  map[string]*gift `json:"given"`
}

// OpenThanks goes on from a run's folder. A file that is missing or damaged costs the counts before it.
func OpenThanks(dir string) *Thanks {
	t := &Thanks{path: filepath.Join(dir, "thanks"), given: map[wire.PeerID]*gift{}, slots: map[wire.Slot]wire.PeerID{}}
	var f thanksFile
	b, err := os.ReadFile(t.path)
	if err != nil || json.Unmarshal(b, &f) != nil || len(f.Given) > maxGivers {
		return t
	}
	given := map[wire.PeerID]*gift{}
	for text, g := range f.Given {
		id, err := wire.ParsePeerID(text)
		if err != nil || g == nil {
			return t
		}
		given[id] = g
	}
	t.since, t.height, t.given = f.Since, f.Height, given
	return t
}

// Save keeps the counts.
func (t *Thanks) Save() error {
	f := thanksFile{Since: t.since, Height: t.height, Given: map[string]*gift{}}
	for id, g := range t.given {
		f.Given[id.String()] = g
	}
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("keep the leaderboard: %w", err)
	}
	return store.WriteFile(t.path, b, 0o600)
}

// member remembers whose a slot is; a commit may count it after its end.
func (t *Thanks) member(m *wire.Member) {
	t.slots[m.Slot] = m.Peer
	for ; len(t.slots) > maxSlots; t.oldest++ {
		delete(t.slots, t.oldest)
	}
}

// commit counts a commit's contributors once.
func (t *Thanks) commit(height uint64, table *wire.CommitTable) {
	if height <= t.height {
		return
	}
	t.height, t.newest = height, len(table.Contributors)
	if t.since == 0 {
		t.since = height
	}
	for i := range table.Contributors {
		c := &table.Contributors[i]
		id, known := t.slots[c.Slot]
		if !known {
			continue
		}
		g := t.given[id]
		if g == nil {
			if len(t.given) >= maxGivers {
				continue
			}
			g = new(gift)
			t.given[id] = g
		}
		g.Tokens += c.Tokens
		g.Commits++
	}
}

// Entry takes in an entry of the ledger and, of a commit, its table, nil where it is not here.
func (t *Thanks) Entry(height uint64, body wire.Body, encoded []byte) {
	switch b := body.(type) {
	case *wire.Member:
		t.member(b)
	case *wire.Commit:
		var table wire.CommitTable
		if encoded != nil && wire.Decode(encoded, &table) == nil {
			if t.since == 0 && b.Base == 0 {
				t.since = 1 // nothing came before the first version
			}
			t.commit(height, &table)
		}
	case *wire.Lease, *wire.Attempt, *wire.Settings, *wire.Checkpoint:
	}
}

// Of is whose a slot is or was.
func (t *Thanks) Of(slot wire.Slot) (id wire.PeerID, known bool) {
	id, known = t.slots[slot]
	return id, known
}

// ranks lists the givers of most, and self wherever it stands. Each of a run's fragments counts the same tokens.
func (t *Thanks) ranks(self wire.PeerID, fragments uint64, name func(wire.PeerID) string) status.Thanks {
	ids := make([]wire.PeerID, 0, len(t.given))
	for id := range t.given {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b wire.PeerID) int {
		return cmp.Or(cmp.Compare(t.given[b].Tokens, t.given[a].Tokens), slices.Compare(a[:], b[:]))
	})
	out := status.Thanks{Since: t.since, Givers: len(ids), Ranks: []status.Giver{}}
	for i, id := range ids {
		if i < maxThanks || id == self {
			g := t.given[id]
			out.Ranks = append(out.Ranks, status.Giver{Rank: i + 1, ID: id.String(), Name: name(id), You: id == self, Tokens: g.Tokens / fragments, Commits: g.Commits})
		}
	}
	return out
}
