// Package data turns text into tokens and tokens into training windows.
//
// A Corpus is read from a folder, a glob, one file or, by default, the Go
// source tree, as byte tokens (vocabulary 256) with a deterministic held-out
// split: whole directories for folders and globs, blocks for one file. The
// files are joined in the order of their paths, each followed by EndOfText.
//
// A Tokenizer is Bytes or a byte-level BPE, read from a tokenizer.json, learned
// by TrainBPE, or GPT2's. It gives the tokens that Hugging Face's library gives,
// and tokens give back their text; a tokenizer.json that would change the text
// is refused. BPE is written here since the kept library reaches the network.
//
// Prepare turns large text (plain, JSON lines, Parquet through package
// data/parquet; gzip, zstd) into a folder of headerless token files with a
// Manifest. Its bytes depend on inputs and settings only: not on threads, nor
// on how often it was killed and given again.
//
// OpenDataset reads either, or a weighted mixture of prepared folders.
//
// Windows cuts tokens into sequences of T+1 tokens at stride T: T inputs and
// the T targets that follow them. Order is the keyed permutation in which a
// run reads the windows, one per epoch and computed without a table, so that
// leases are ranges of positions (protocol, R3b) and every machine agrees what
// a position means; Mixture is the same over several sets.
//
// PackShards cuts tokens into content-addressed shards, which is how they
// travel; OpenShards verifies and joins them. CountNGrams gives the unigram and
// bigram losses that a model has to beat.
package data
