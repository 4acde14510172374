package data

import (
	"crypto/sha256"
	"encoding/binary"
)

// One in heldOutEvery directories or blocks is held out.
const heldOutEvery = 10

// A split by directory is accepted when the held-out share lies between these,
// in percent; a folder with a handful of directories often misses them.
const (
	minHeldOutPercent = 3
	maxHeldOutPercent = 25
)

// dirSpan is the stretch [from, to) of the joined text that comes from one file.
type dirSpan struct {
	dir      string // slash path relative to the root, "." for the root
	from, to int
}

// splitByDirectory parts joined text by the hash of each file's directory, so
// that files that belong together stay on one side. It reports false when the
// shares come out too uneven.
func splitByDirectory(text []byte, spans []dirSpan) (train, heldOut []byte, ok bool) {
	held := make(map[string]bool)
	share := 0
	for _, s := range spans {
		if _, known := held[s.dir]; !known {
			held[s.dir] = draw("dunlin/1/split/directory", []byte(s.dir), heldOutEvery) == 0
		}
		if held[s.dir] {
			share += s.to - s.from
		}
	}
	if share*100 < minHeldOutPercent*len(text) || share*100 > maxHeldOutPercent*len(text) {
		return nil, nil, false
	}
	train = make([]byte, 0, len(text)-share)
	heldOut = make([]byte, 0, share)
	for _, s := range spans {
		if held[s.dir] {
			heldOut = append(heldOut, text[s.from:s.to]...)
		} else {
			train = append(train, text[s.from:s.to]...)
		}
	}
	return train, heldOut, true
}

// splitByBlock cuts text into equal blocks and holds out one of each ten, the
// one that the hash of the group's number names. Text that MinBytes admits
// always leaves both sides some.
func splitByBlock(text []byte) (train, heldOut []byte) {
	size := min(max(len(text)/40, 256), 16<<10)
	heldOut = make([]byte, 0, len(text)/heldOutEvery+size)
	train = make([]byte, 0, len(text))
	for block := 0; block*size < len(text); block++ {
		body := text[block*size : min((block+1)*size, len(text))]
		group := binary.LittleEndian.AppendUint64(nil, uint64(block/heldOutEvery))
		if draw("dunlin/1/split/block", group, heldOutEvery) == block%heldOutEvery {
			heldOut = append(heldOut, body...)
		} else {
			train = append(train, body...)
		}
	}
	return train, heldOut
}

// draw maps a key to [0, n), evenly and for ever.
func draw(domain string, key []byte, n int) int {
	d := sha256.New()
	d.Write([]byte(domain))
	d.Write([]byte{0})
	d.Write(key)
	return int(binary.LittleEndian.Uint64(d.Sum(nil)) % uint64(n))
}
