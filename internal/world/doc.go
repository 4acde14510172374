// Package world holds tests of the whole: real peers over real libp2p, on
// loopback and in virtual time, and the real binary.
package world
