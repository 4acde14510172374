// Package contact asks other peers: for a run's spec and which stage to serve, before there is a peer; for the bytes that the
// machines decide on (Fetcher) and the training text (Shards); where a coordinator is (Reach, Hearsay); and how fast the link
// between two machines is.
package contact
