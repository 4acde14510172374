// Package swarm is the network of a run: it keeps peers connected, carries small
// control messages and answers bulk requests. A process has two libp2p hosts, so
// that control never waits behind bulk on a connection: one under the identity,
// and the lane, for bulk, under a key that the identity certifies.
//
// Five protocols, all under the run's prefix ("/dunlin/1/<hash of the run id>"):
//
//	<prefix>/control   one stream per direction and peer, opened when a session begins:
//	                   -> hello: 0x02 instance(8) lane key(32) signatures(64, 64) count(uvarint) {length(uvarint) address}…
//	                      instance: of the process, random; lane: serves bulk; signed: the run id, too, which does not travel
//	                   <- 0x01 the hello is taken, the lane in it may connect
//	                   -> frame: length(uvarint) bytes      1..Limits.Message; length 0, then addresses as
//	                      in the hello: please connect for bulk, my lane is there now
//	<prefix>/bulk      between lanes; requests follow each other on a stream:
//	                   -> class(1) offset(uvarint) credit(uvarint) length(uvarint) request
//	                   -> credit(uvarint) …                 as the requester's download limit allows
//	                   <- 0x00 length(uvarint) bytes        the answer from the offset on, as far as there is credit
//	                   <- 0x01 length(uvarint) text         refused, with the reason
//	                   <- 0x02 0x00                         busy, ask again later
//	<prefix>/life      -> 0x00, <- 0x00, and again while something is awaited of the remote
//	<prefix>/passing   between lanes, one stream a peer, what stages pass: -> length(uvarint) bytes …
//	<prefix>/raft      among coordinators, one stream per call: -> length(uvarint) bytes, <- the same
//
// A session spans the time between Handler.Connected and Handler.Disconnected.
// Within a session the messages of a peer arrive in order and without gaps; whatever
// could lose one (a broken control stream, another process under the same identity)
// ends it, closes the connections and begins afresh. A silent peer is noticed while
// something is awaited of it, a dead process at once over TCP, within 8 seconds over
// QUIC (4/3 of Limits.QUICIdle).
//
// Both directions have a rate limit (Config.Up, Config.Down) that all transfers
// share, served by class and age; control goes at once and is paid for by bulk. Equal
// requests have equal answers: a broken transfer goes on where it stopped, with anyone.
//
// Everything a remote can grow is bounded by Limits. A peer that breaks the protocol or
// floods is cut off: its connections close and none is accepted from it for Limits.Shun.
// TCP (Noise or TLS 1.3, yamux) is dialled first and QUIC only when that does not answer;
// Reach says how routers are passed. No DHT or telemetry is used. LoadOrCreateKey and
// LockFolder keep what identity needs on disk.
package swarm
