// Package contribution is one worker's side of a round and the owner's sum
// (protocol, R1, R4, R5).
//
// A [Tracker] follows one fragment of one worker. It keeps progress in exactly one
// place: in the live parameters until a snapshot, in the error feedback e once a
// contribution has been encoded, in the committed weights as far as a commit took
// it. The law that its tests hold it to, for β = 1 and the rebase rule: decoded
// shares that commits took + e + live drift = all local movement.
//
//	Snapshot  copies the live parameters (cheap, between two inner steps)
//	Encode    a = βe + (anchor − snapshot); s = Q(a), once per base version
//	          with the rule eager the live parameters go on from anchor + α(snapshot − anchor)
//	Merge     for every commit: settles e, then θ ← θ_g' + (θ − base), anchor ← θ_g'
//
// A [Summer] adds the slabs that members sent to an owner, in rank order, in float32,
// and encodes the mean once.
//
// The package reads no clock, starts no goroutine and does no I/O.
package contribution
