// Package contact asks other peers: for a run's spec and which stage to serve, before there is a peer; for the bytes that the
// machines decide on (Fetcher); whom else they know (Hearsay); and how fast the link between two machines is.
package contact
