// Package data turns text into training windows.
//
// A Corpus is read from a folder, a glob, one file or, by default, the Go
// source tree, as byte tokens (vocabulary 256) with a deterministic held-out
// split: whole directories for folders and globs, blocks for one file. The
// files are joined in the order of their paths, each followed by EndOfText.
//
// Windows cuts tokens into sequences of T+1 tokens at stride T: T inputs and
// the T targets that follow them. Order is the keyed permutation in which a
// run reads the windows, one per epoch and computed without a table, so that
// leases are ranges of positions (protocol, R3b) and every machine agrees what
// a position means.
//
// PackShards cuts tokens into content-addressed shards, which is how they
// travel; OpenShards verifies and joins them. NGram gives the unigram and
// bigram losses that a model has to beat.
package data
