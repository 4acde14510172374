// Command pytorch is the part of the comparisons with PyTorch that needs dunlin's own code. It writes the windows that
// `dunlin train` reads, in its order, so that PyTorch can train on the same.
//
// The file holds int32 values, little-endian: for each window its tokens and the one behind them, first those of all
// steps, then the held-out ones that the loss is measured on.
//
// Beside it: parity.py compares losses (`make check-parity`), bench.py speed and memory (`make bench-peers`) with the
// help of worker.py; gpt2.py is the model that PyTorch trains. Nothing of this is part of building or testing dunlin.
package main
