package wire

import (
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stageExamples has one message of every kind between a trainer and a stage.
func stageExamples() map[string]StageMessage {
	key := StageKey{Trainer: 3, Step: 7, Try: 1, Micro: 29, Stage: 2, Attempt: 4}
	norm := math.Float64bits(2.5)
	return map[string]StageMessage{
		"stage-call":    &StageCall{Key: key, Backward: true, Version: 6, Bytes: 4096},
		"stage-cancel":  &StageCancel{Key: key},
		"stage-accept":  &StageAccept{Key: key},
		"stage-close":   &StageClose{Trainer: 3, Step: 7, Try: 1, Edition: 2, Stage: 2, Members: []PeerID{PeerIDOf(testKey())}, Micros: []uint64{28, 29}, Total: 4},
		"stage-apply":   &StageApply{Trainer: 3, Step: 7, Try: 1, Edition: 2, Stage: 2, NormSq: norm},
		"stage-void":    &StageVoid{Trainer: 3, Step: 7, Try: 2},
		"stage-answer":  &StageAnswer{Key: key, Version: 7, Wait: 1200, Took: 90000, Bytes: 2048},
		"stage-refusal": &StageRefusal{Key: key, Code: StageBusy, Reason: "its queue is full"},
		"stage-counted": &StageCounted{Key: key, Fate: StageInSum},
		"stage-reduced": &StageReduced{Trainer: 3, Step: 7, Try: 1, Edition: 2, Stage: 2, NormSq: norm},
		"stage-missing": &StageMissing{Trainer: 3, Step: 7, Try: 1, Edition: 2, Stage: 2, Micros: []uint64{29}, Reason: "not counted here"},
		"stage-applied": &StageApplied{Trainer: 3, Step: 7, Stage: 2, Version: 8},
	}
}

func TestStageMessagesAreThoseOfTheVectors(t *testing.T) {
	for name, m := range stageExamples() {
		b := EncodeStageMessage(m)
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(b)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(want)) != hex.EncodeToString(b) {
			t.Errorf("%s: the bytes have changed, which parts this release from all others:\n got %x\nwant %s", name, b, want)
		}
		got, err := DecodeStageMessage(b)
		if err != nil || string(EncodeStageMessage(got)) != string(b) {
			t.Errorf("%s: changed on its way: %v", name, err)
		}
	}
}

func TestStageMessagesOutOfBoundsAreRefused(t *testing.T) {
	key := StageKey{Trainer: 3, Micro: 29, Stage: 2, Attempt: 4}
	bad := key
	bad.Attempt = 0
	member := []PeerID{PeerIDOf(testKey())}
	for name, m := range map[string]StageMessage{
		"attempt 0":             &StageAccept{Key: bad},
		"too many activations":  &StageCall{Key: key, Bytes: MaxActivations + 1},
		"no trainer":            &StageVoid{Step: 1},
		"stage":                 &StageApply{Trainer: 1, Stage: MaxStages},
		"no members":            &StageClose{Trainer: 1, Total: 1},
		"unordered set":         &StageClose{Trainer: 1, Total: 2, Members: member, Micros: []uint64{2, 1}},
		"micro-batch twice":     &StageMissing{Trainer: 1, Micros: []uint64{2, 2}},
		"more than a step has":  &StageMissing{Trainer: 1, Micros: make([]uint64, MaxMicroBatches+1)},
		"unknown refusal":       &StageRefusal{Key: key, Code: 9},
		"refusal without limit": &StageRefusal{Key: key, Code: StageBusy, Reason: strings.Repeat("x", 1<<12)},
		"unknown fate":          &StageCounted{Key: key},
		"endless wait":          &StageAnswer{Key: key, Wait: 1 << 41},
	} {
		if _, err := DecodeStageMessage(EncodeStageMessage(m)); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

func FuzzDecodeStage(f *testing.F) {
	for _, m := range stageExamples() {
		f.Add(EncodeStageMessage(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeStageMessage(b); err == nil && string(EncodeStageMessage(m)) != string(b) {
			t.Fatalf("%T has two encodings", m)
		}
	})
}
