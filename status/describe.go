package status

import (
	"fmt"

	"dunlin/wire"
)

// DescribeEntry is a ledger entry in a few words.
func DescribeEntry(body wire.Body) string {
	switch b := body.(type) {
	case *wire.Member:
		verb := map[wire.MemberOp]string{wire.MemberAdmit: "joins as", wire.MemberLeave: "leaves", wire.MemberBan: "is banned from"}[b.Op]
		text := fmt.Sprintf("%s %s slot %d", b.Peer.Short(), verb, b.Slot)
		if b.Reason != "" {
			text += ": " + b.Reason
		}
		return text
	case *wire.Lease:
		return fmt.Sprintf("%d windows to slot %d", wire.Windows(b.Ranges), b.Slot)
	case *wire.Attempt:
		return fmt.Sprintf("fragment %d to version %d, attempt %s", b.Fragment, b.Base+1, b.ID)
	case *wire.Commit:
		return fmt.Sprintf("fragment %d to version %d, %s tokens, state %s", b.Fragment, b.Base+1, Count(b.Tokens), b.State.Short())
	case *wire.Settings:
		return fmt.Sprintf("%s: %s", b.Phase, b.Reason)
	case *wire.Checkpoint:
		if b.Complete {
			return fmt.Sprintf("state at height %d is held by enough peers", b.At)
		}
		return fmt.Sprintf("keep the state at height %d", b.At)
	}
	return ""
}
