package sim

import (
	"reflect"
	"testing"
	"time"
)

// TestMemoryDoesNotGrow runs a calm swarm for long: what the machines of a peer
// keep must not grow with the length of the run.
func TestMemoryDoesNotGrow(t *testing.T) {
	sc := Default(21)
	sc.Setup.Values, sc.Setup.H = []int{40, 24}, 4
	sc.Busy = 10 * time.Minute
	w, err := New(sc)
	if err != nil {
		t.Fatal(err)
	}
	sizes := func() (out []int) {
		for _, h := range w.hosts {
			out = append(out, elements(reflect.ValueOf(h.proc.core), map[uintptr]bool{}))
		}
		return out
	}
	w.RunUntil(2 * time.Minute)
	early := sizes()
	w.RunUntil(6 * time.Minute)
	late := sizes()
	if w.Err() != nil {
		t.Fatal(w.Err())
	}
	t.Logf("%d then %d elements, %d entries", early, late, len(w.referee.books.entries))
	for i := range early {
		if late[i] > 2*early[i]+500 {
			t.Errorf("%s: its core keeps %d elements after 6 minutes, %d after 2", w.hosts[i].name, late[i], early[i])
		}
	}
}

// elements counts the elements of all maps and slices that a value reaches.
func elements(v reflect.Value, seen map[uintptr]bool) int {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] {
			return 0
		}
		seen[v.Pointer()] = true
		return elements(v.Elem(), seen)
	case reflect.Interface:
		if v.IsNil() {
			return 0
		}
		return elements(v.Elem(), seen)
	case reflect.Struct:
		n := 0
		for i := range v.NumField() {
			n += elements(v.Field(i), seen)
		}
		return n
	case reflect.Slice:
		n := v.Len()
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return n / 64
		}
		for i := range v.Len() {
			n += elements(v.Index(i), seen)
		}
		return n
	case reflect.Map:
		n := v.Len()
		for _, k := range v.MapKeys() {
			n += elements(v.MapIndex(k), seen)
		}
		return n
	default:
		return 0
	}
}
