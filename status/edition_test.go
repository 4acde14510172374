package status

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
)

// TestNoFigureBlindsThePage makes every figure of a snapshot, one after the other, not a number: the rest is still shown.
func TestNoFigureBlindsThePage(t *testing.T) {
	full := func() *Snapshot {
		s := new(Snapshot)
		fill(reflect.ValueOf(s).Elem())
		return s
	}
	names := figures(reflect.ValueOf(full()).Elem(), "", nil)
	if len(names) < 40 {
		t.Fatalf("only %d figures are found: %v", len(names), names)
	}
	for i, name := range names {
		s := full()
		found := 0
		figures(reflect.ValueOf(s).Elem(), "", func(v reflect.Value) {
			if found == i {
				v.SetFloat(math.NaN())
			}
			found++
		})
		if _, err := Encode(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		found = 0
		figures(reflect.ValueOf(s).Elem(), "", func(v reflect.Value) {
			if found == i && !math.IsNaN(v.Float()) {
				t.Errorf("%s: the snapshot itself is changed", name)
			}
			found++
		})
	}
	if _, err := json.Marshal(full()); err != nil {
		t.Fatal(err)
	}
}

// fill gives each pointer and list of a value one element.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	}
}

// figures lists the floats in a value and shows each.
func figures(v reflect.Value, name string, show func(reflect.Value)) []string {
	var names []string
	switch v.Kind() {
	case reflect.Float64:
		if show != nil {
			show(v)
		}
		return []string{name}
	case reflect.Pointer:
		names = figures(v.Elem(), name, show)
	case reflect.Slice:
		names = figures(v.Index(0), name, show)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				names = append(names, figures(v.Field(i), name+"."+f.Name, show)...)
			}
		}
	}
	return names
}
