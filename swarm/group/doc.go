// Package group has a run's coordinators agree on one sequence of commands, by
// Raft. Which commands there are, and what follows from them, is not its matter:
// whatever a majority has durably is handed to Handler.Agreed, in the same order
// everywhere.
//
// Group is hashicorp/raft with its log in a bbolt file. It takes part in elections
// and replicates over calls between the coordinators' hosts (swarm.Host.Call), so it
// opens no port and knows no address. The members are fixed: the run's coordinator
// keys.
//
// Of the log the newest commands are kept. What the older ones came to is a few
// numbers (wire.Standing) in a snapshot beside it, since the entries that they became
// are on every ledger: a member is asked for it (Handler.Condense), and it is handed
// over in their place at a start and to a member that was away for too long.
//
// A call is one byte for its kind, then frames, each length(uvarint) and canonical CBOR:
//
//	append     the request's head, then one frame for each entry
//	vote       the request
//	pre-vote   the request
//	time out   the request
//	snapshot   the request, which holds a standing
//
// and the answer is one frame.
package group
