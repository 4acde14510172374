package wire

import (
	"bytes"
	"reflect"
	"testing"
)

func TestPassedAndCargo(t *testing.T) {
	key := StageKey{Trainer: 3, Micro: 7, Stage: 1, Attempt: 2}
	c := &Cargo{Windows: []Range{{From: 4, To: 6}}, Input: []byte("input"), Gradient: []byte("grad")}
	bytesOf := EncodeCargo(c)
	call := &StageCall{Key: key, Backward: true, Bytes: uint64(len(bytesOf))}
	m, cargo, err := DecodePassed(EncodePassed(call, bytesOf))
	if err != nil || !reflect.DeepEqual(m, call) {
		t.Fatalf("came back as %v, %v", m, err)
	}
	got, err := DecodeCargo(cargo)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Fatalf("cargo came back as %+v, %v", got, err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "long head": {0xff, 0xff, 0xff, 0x7f}, "half": EncodePassed(call, bytesOf)[:9],
		"too little cargo": EncodePassed(call, bytesOf[1:]), "cargo of no call": EncodePassed(&StageCancel{Key: key}, []byte("x")),
	} {
		if _, _, err := DecodePassed(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	bad := &Cargo{Windows: []Range{{From: 6, To: 6}}}
	if _, err := DecodeCargo(EncodeCargo(bad)); err == nil {
		t.Error("an empty range is taken")
	}
	if _, err := DecodeCargo(bytesOf[:len(bytesOf)-len("inputgrad")+2]); err == nil {
		t.Error("an input that is cut off is taken")
	}
}

func FuzzPassed(f *testing.F) {
	c := EncodeCargo(&Cargo{Windows: []Range{{From: 4, To: 6}}, Input: []byte("input"), Gradient: []byte("grad")})
	f.Add(EncodePassed(&StageCall{Key: StageKey{Trainer: 3, Attempt: 1}, Bytes: uint64(len(c))}, c))
	f.Add(EncodePassed(&StageCancel{Key: StageKey{Trainer: 3, Attempt: 1}}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, cargo, err := DecodePassed(b)
		if err != nil {
			return
		}
		if again := EncodePassed(m, cargo); !bytes.Equal(again, b) && len(again) > len(b) {
			t.Errorf("%x is the longer form of %x", again, b)
		}
		if c, err := DecodeCargo(cargo); err == nil {
			if got, err := DecodeCargo(EncodeCargo(c)); err != nil || !bytes.Equal(got.Input, c.Input) || !bytes.Equal(got.Gradient, c.Gradient) {
				t.Errorf("cargo %+v comes back as %+v, %v", c, got, err)
			}
		}
	})
}
