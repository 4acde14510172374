// Package status shows a run to people and programs: one immutable Snapshot,
// the web page and the API that serve it, the terminal's view of it. A peer
// publishes a Snapshot a few times a second; everything here only renders what
// it says. Unknown is not zero: figures that are not known yet are nil, and are
// shown as "–".
//
// The page is embedded and asks no other host for anything. It is served on
// loopback, where the Host header must name loopback too, so that no foreign
// site can reach it through a name of its own; on any other address every
// figure needs a token, which only lets one read.
//
//	/                 the page
//	/api/v1/snapshot  the newest Snapshot as JSON
//	/api/v1/events    server-sent events: snapshot, alive (its age), end
//	/api/v1/ledger/N  all that the ledger's entry N says
//	/api/v1/machine   POST a Change of this machine's limits, on loopback only, with
//	                  the token of /api/v1/machine/token
//	/api/v1/invite.svg  the invite as a QR code
//	/metrics          the newest Snapshot for Prometheus
//	/healthz          ok, or what is missing
package status
