package status

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"
)

// edition is one published snapshot. Its bytes are made when the first reader
// wants them, once for all readers; next is closed when a newer edition is out,
// so that any number of readers waits without anybody keeping a list of them.
type edition struct {
	number    uint64
	snapshot  *Snapshot // nil before the first one
	published time.Time
	next      chan struct{}

	once  sync.Once
	json  []byte
	event []byte // the same as a server-sent event
	etag  string
	err   error

	packOnce sync.Once
	packed   []byte // the event as a part of a gzip stream
}

func newEdition(number uint64, s *Snapshot) *edition {
	return &edition{number: number, snapshot: s, published: time.Now(), next: make(chan struct{})}
}

// age is the time since the edition was published.
func (e *edition) age() time.Duration { return time.Since(e.published) }

// encode makes the edition's bytes unless they are there.
func (e *edition) encode() error {
	e.once.Do(func() {
		if e.json, e.err = Encode(e.snapshot); e.err != nil {
			return
		}
		sum := sha256.Sum256(e.json)
		e.etag = `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		e.event = slices.Concat([]byte("event: snapshot\nid: "), strconv.AppendUint(nil, e.number, 10), []byte("\ndata: "), e.json, []byte("\n\n"))
	})
	return e.err
}

// Encode is a snapshot as JSON. Figures that are not numbers are left out.
func Encode(s *Snapshot) ([]byte, error) { return json.Marshal(finite(s)) }

// Decode reads what Encode wrote.
func Decode(b []byte) (*Snapshot, error) {
	s := new(Snapshot)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	return s, nil
}

// A stream of events that is gzip is its header once and then parts of deflate (RFC 1951), each by itself and each ended by
// an empty stored block, which flushes it. So one packed event serves every stream, whatever came before on it.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// pack makes the packed event unless it is there.
func (e *edition) pack() []byte {
	e.packOnce.Do(func() { e.packed = deflated(e.event) })
	return e.packed
}

// deflated is a part of such a stream.
func deflated(text []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		panic("status: deflate in memory: " + err.Error()) // neither the level nor a buffer can fail
	}
	return b.Bytes()
}

// stored is a short text as such a part, as it is: a compressor would cost more than it saves.
func stored(text []byte) []byte {
	size := uint16(len(text))
	part := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16([]byte{0}, size), ^size)
	return append(append(part, text...), 0, 0, 0, 0xff, 0xff)
}

// finite returns the snapshot with every figure that is not a number taken out:
// JSON cannot say NaN, and one worker's broken figure must not blind the page.
// The snapshot itself is left as it is.
func finite(s *Snapshot) *Snapshot {
	c := *s
	numbers(&c.Learning.Train, &c.Learning.HeldOut, &c.Learning.Unigram, &c.Learning.Bigram)
	numbers(&c.Speed.TokensPerSecond, &c.Speed.Own, &c.Speed.Step, &c.Speed.StepP95, &c.Speed.SecondsLeft)
	numbers(&c.Cost.BitsPerParameter, &c.Cost.UploadBitsPerParameter, &c.Cost.BytesRatio, &c.Cost.BytesPerPeerDay)
	c.Learning.Curve = keep(c.Learning.Curve, func(p Point) bool { return isFinite(p.Loss, p.At) })
	c.Learning.HeldOuts = keep(c.Learning.HeldOuts, func(p Point) bool { return isFinite(p.Loss, p.At) })
	c.Speed.History = keep(c.Speed.History, func(r Rate) bool { return isFinite(r.At, r.Rate, r.Own) && isFinite(r.Classes...) })
	c.Samples = keep(c.Samples, func(s Sample) bool { return isFinite(s.Loss) })
	c.Rounds = keep(c.Rounds, func(r Round) bool {
		for _, at := range []*float64{r.Snapshot, r.Ready, r.Opened, r.Summed, r.Held, r.Closed, r.Merged} {
			if at != nil && !isFinite(*at) {
				return false
			}
		}
		return true
	})
	c.Speed.Classes, c.Thanks.Ranks, c.Learning.Moves = listed(c.Speed.Classes), listed(c.Thanks.Ranks), listed(c.Learning.Moves)
	if c.Machine != nil {
		m := *c.Machine
		numbers(&m.Estimate)
		zeros(&m.Others)
		if e := m.Expects; e != nil && !isFinite(e.Sends, e.Receives) {
			m.Expects = nil
		}
		c.Machine = &m
	}
	c.Peers = slices.Clone(c.Peers)
	for i := range c.Peers {
		p := &c.Peers[i]
		numbers(&p.Latency)
		zeros(&p.Loss, &p.TokensPerSecond, &p.Utilisation, &p.SeenSeconds)
	}
	c.Cards = slices.Clone(c.Cards)
	for i := range c.Cards {
		zeros(&c.Cards[i].Utilisation, &c.Cards[i].Temperature, &c.Cards[i].Power, &c.Cards[i].PowerLimit)
	}
	c.Stages = slices.Clone(c.Stages)
	for i := range c.Stages {
		numbers(&c.Stages[i].Wait)
	}
	c.Transfers = slices.Clone(c.Transfers)
	for i := range c.Transfers {
		numbers(&c.Transfers[i].Rate, &c.Transfers[i].SecondsLeft)
	}
	return &c
}

func isFinite(values ...float64) bool {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// keep returns the rows that pass, never nil, so that JSON has a list.
func keep[T any](rows []T, pass func(T) bool) []T {
	kept := make([]T, 0, len(rows))
	for _, r := range rows {
		if pass(r) {
			kept = append(kept, r)
		}
	}
	return kept
}

// listed is rows, never nil, so that JSON has a list.
func listed[T any](rows []T) []T {
	if rows == nil {
		return []T{}
	}
	return rows
}

// numbers makes unknown what is not a number.
func numbers(figures ...**float64) {
	for _, f := range figures {
		if *f != nil && !isFinite(**f) {
			*f = nil
		}
	}
}

// zeros makes 0 what is not a number.
func zeros(figures ...*float64) {
	for _, f := range figures {
		if !isFinite(*f) {
			*f = 0
		}
	}
}
