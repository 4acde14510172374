package data

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// newTokenizerFile returns the file of a byte-level BPE that is cut by GPT-2's
// rule, still without tokens.
func newTokenizerFile() *tokenizerFile {
	f := new(tokenizerFile)
	f.Model.Type = "BPE"
	return f
}

// ByteFile returns the tokenizer.json that makes of text what Bytes does, for other
// tools: a byte-level BPE without merges, in which each byte is its own number.
func ByteFile() []byte {
	f := newTokenizerFile()
	f.Model.Vocab = make(map[string]int, Vocabulary)
	for b, r := range runeOfByte() {
		f.Model.Vocab[string(r)] = b
	}
	return f.encode()
}

// encode writes tokenizer.json, tokens in the order of their numbers. It is
// written by hand since encoding/json sorts maps by key.
func (f *tokenizerFile) encode() []byte {
	var b bytes.Buffer
	b.WriteString("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [")
	for i, a := range f.Added {
		separate(&b, i, "\n    ")
		writeJSON(&b, a)
	}
	b.WriteString("\n  ],\n  \"normalizer\": null,\n" +
		`  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},` + "\n" +
		`  "post_processor": null,` + "\n" +
		`  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},` + "\n" +
		"  \"model\": {\n" +
		`    "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",` + "\n" +
		`    "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,` + "\n    \"vocab\": {")
	order := slices.SortedFunc(maps.Keys(f.Model.Vocab), func(a, b string) int {
		return cmp.Or(cmp.Compare(f.Model.Vocab[a], f.Model.Vocab[b]), cmp.Compare(a, b))
	})
	for i, written := range order {
		separate(&b, i, "\n      ")
		writeJSON(&b, written)
		fmt.Fprintf(&b, ": %d", f.Model.Vocab[written])
	}
	b.WriteString("\n    },\n    \"merges\": [")
	for i, m := range f.Model.Merges {
		separate(&b, i, "\n      ")
		writeJSON(&b, m[0]+" "+m[1])
	}
	b.WriteString("\n    ]\n  }\n}\n")
	return b.Bytes()
}

func separate(b *bytes.Buffer, i int, indent string) {
	if i > 0 {
		b.WriteByte(',')
	}
	b.WriteString(indent)
}

// writeJSON writes a text or a token with <, > and & as they are.
func writeJSON(b *bytes.Buffer, value any) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(value) // a buffer and plain values: neither can fail
	b.Truncate(b.Len() - 1)
}
