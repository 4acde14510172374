package status

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dunlin/wire"
)

var update = flag.Bool("update", false, "rewrite docs/openapi.json and docs/metrics.md")

const openAPI = "../docs/openapi.json"

// described are the comments of this package's struct fields, by type and field.
func described(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(gotoken.NewFileSet(), f.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range s.Fields.List {
					for _, name := range field.Names {
						out[spec.Name.Name+"."+name.Name] = strings.TrimSpace(field.Comment.Text() + field.Doc.Text())
					}
				}
			}
			return true
		})
	}
	return out
}

type schema = map[string]any

// schemas writes the JSON schema of a type and of all that it holds.
func schemas(of reflect.Type, text map[string]string, into map[string]any) schema {
	switch of {
	case reflect.TypeFor[time.Time]():
		return schema{"type": "string", "format": "date-time"}
	case reflect.TypeFor[wire.Hash]():
		return schema{"type": "string", "description": "SHA-256 in hex"}
	}
	switch of.Kind() {
	case reflect.Pointer:
		inner := schemas(of.Elem(), text, into)
		if ref, is := inner["$ref"]; is {
			return schema{"oneOf": []any{schema{"$ref": ref}, schema{"type": "null"}}}
		}
		inner["type"] = []any{inner["type"], "null"}
		return inner
	case reflect.Slice:
		return schema{"type": []any{"array", "null"}, "items": schemas(of.Elem(), text, into)}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": schemas(of.Elem(), text, into)}
	case reflect.Struct:
		if _, done := into[of.Name()]; !done {
			into[of.Name()] = nil // it may hold itself
			into[of.Name()] = structSchema(of, text, into)
		}
		return schema{"$ref": "#/components/schemas/" + of.Name()}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	default:
		return schema{"type": "integer"}
	}
}

func structSchema(of reflect.Type, text map[string]string, into map[string]any) schema {
	properties, required := schema{}, []any{}
	for i := range of.NumField() {
		f := of.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		one := schemas(f.Type, text, into)
		if says := text[of.Name()+"."+f.Name]; says != "" {
			one["description"] = says
		}
		properties[name] = one
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			required = append(required, name)
		}
	}
	return schema{"type": "object", "properties": properties, "required": required}
}

// TestOpenAPIDescribesTheServer holds docs/openapi.json against the types that the server encodes, the addresses that it
// has, and what a running one answers.
func TestOpenAPIDescribesTheServer(t *testing.T) {
	b, err := os.ReadFile(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		All   schema
		Paths map[string]map[string]struct {
			Responses map[string]struct{ Content map[string]any }
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &doc.All); err != nil {
		t.Fatal(err)
	}

	want := map[string]any{"Error": schema{"type": "object", "properties": schema{"error": schema{"type": "string"}}, "required": []any{"error"}}}
	text := described(t)
	for _, of := range []reflect.Type{reflect.TypeFor[Snapshot](), reflect.TypeFor[EntryDetail](), reflect.TypeFor[Change]()} {
		schemas(of, text, want)
	}
	if *update {
		doc.All["components"].(map[string]any)["schemas"] = want
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(doc.All); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(openAPI, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	wanted, _ := json.Marshal(want)
	var normal map[string]any
	if err := json.Unmarshal(wanted, &normal); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(normal, doc.Components.Schemas) {
		t.Error("docs/openapi.json describes other types than the server encodes: go test ./status -run OpenAPI -update, and look at the difference")
	}

	s := start(t, Config{
		Change: nil,
		Entry:  nil,
	})
	s.Publish(sample())
	var have []string
	for path, methods := range doc.Paths {
		for method, says := range methods {
			have = append(have, strings.ToUpper(method)+" "+path)
			if method != "get" || strings.HasPrefix(path, "/api/v1/events") {
				continue // events have their own tests
			}
			w, body := get(t, s, strings.ReplaceAll(path, "{height}", "7"))
			answer, ok := says.Responses[strconv.Itoa(w.StatusCode)]
			kind, _, _ := strings.Cut(w.Header.Get("Content-Type"), ";")
			if _, named := answer.Content[kind]; !ok || !named {
				t.Errorf("%s answers %d %s, which docs/openapi.json does not say", path, w.StatusCode, kind)
			}
			if kind == "application/json" && !json.Valid([]byte(body)) {
				t.Errorf("%s answers no JSON", path)
			}
		}
	}
	slices.Sort(have)
	if routes := slices.Sorted(maps.Keys(s.api())); !slices.Equal(routes, have) {
		t.Errorf("docs/openapi.json has %q, the server %q", have, routes)
	}

	// The snapshot that is served has the keys that the file says, and no others.
	_, body := get(t, s, "/api/v1/snapshot")
	var served map[string]any
	if err := json.Unmarshal([]byte(body), &served); err != nil {
		t.Fatal(err)
	}
	described := doc.Components.Schemas["Snapshot"].(map[string]any)["properties"].(map[string]any)
	for key := range served {
		if _, ok := described[key]; !ok {
			t.Errorf("the served snapshot has %q, which docs/openapi.json does not", key)
		}
	}
	if w, _ := get(t, start(t, Config{}), "/api/v1/snapshot"); w.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("before the first snapshot: %d", w.StatusCode)
	}
}
