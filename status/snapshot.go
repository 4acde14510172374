package status

import (
	"time"

	"dunlin/wire"
)

// Snapshot is everything the page, the API and the terminal show. It is never
// changed after it is published.
type Snapshot struct {
	At         time.Time   `json:"at"`
	Version    string      `json:"version"` // of the program
	Self       string      `json:"self"`    // peer id
	Role       string      `json:"role"`    // "coordinator" or "worker"
	Invite     string      `json:"invite,omitempty"`
	Run        Run         `json:"run"`
	Learning   Learning    `json:"learning"`
	Speed      Speed       `json:"speed"`
	Health     Health      `json:"health"`
	Cost       Cost        `json:"cost"`
	Peers      []Peer      `json:"peers"`                 // by slot
	Cards      []Card      `json:"cards,omitempty"`       // that train here, where there is telemetry
	Stages     []Stage     `json:"stages,omitempty"`      // of a model that is spread over peers; none where each holds all of it
	StageMoves []StageMove `json:"stage_moves,omitempty"` // of peers between stages, newest first, bounded
	Rounds     []Round     `json:"rounds"`                // newest last, bounded
	Ledger     []Entry     `json:"ledger"`                // newest first, bounded
	Notes      []Note      `json:"notes"`                 // newest first, bounded
	Thanks     Thanks      `json:"thanks"`
	Transfers  []Transfer  `json:"transfers,omitempty"` // that must end before this worker trains
	Samples    []Sample    `json:"samples"`             // the first one, then the newest ones, newest last; on a coordinator
	Machine    *Machine    `json:"machine,omitempty"`   // nil where nobody may steer this peer
}

// Run says which run this is and where it stands.
type Run struct {
	ID          wire.Hash `json:"id"` // zero where it is kept from those who see the page
	Name        string    `json:"name"`
	Model       string    `json:"model"` // "gpt2 4L/4H/128"
	Parameters  uint64    `json:"parameters"`
	Phase       string    `json:"phase"` // waiting, training, paused, ended
	Reason      string    `json:"reason,omitempty"`
	Done        bool      `json:"done"` // ended, exported, measured, and every worker has said goodbye: nothing more will change
	Height      uint64    `json:"height"`
	Term        uint64    `json:"term"`
	Tokens      uint64    `json:"tokens"` // committed
	TokenBudget uint64    `json:"token_budget"`
	Started     time.Time `json:"started"`
	Fragments   int       `json:"fragments"`
	H           int       `json:"h"`
	StepTokens  uint64    `json:"step_tokens"` // of a worker's inner step
	Codec       string    `json:"codec"`
	Versions    []uint64  `json:"versions"` // of the fragments
	StateHash   wire.Hash `json:"state_hash"`
	// Coordinators are the run's where there are several.
	Coordinators []Coordinator `json:"coordinators,omitempty"`
}

// Coordinator is one of several.
type Coordinator struct {
	ID        string `json:"id"`
	You       bool   `json:"you"`
	Leads     bool   `json:"leads"`
	Connected bool   `json:"connected"` // to this peer
}

// Learning is the loss, in nats a token, against committed tokens.
type Learning struct {
	Train    *float64 `json:"train"`
	HeldOut  *float64 `json:"held_out"`
	Unigram  *float64 `json:"unigram"`
	Bigram   *float64 `json:"bigram"`
	Curve    []Point  `json:"curve"`          // training loss
	HeldOuts []Point  `json:"held_out_curve"` // held-out loss at checkpoints
	Moves    []Move   `json:"moves"`          // of workers, newest last, bounded
}

// Move is a worker that joined, or left.
type Move struct {
	Tokens uint64 `json:"tokens"` // committed by then
	Joined bool   `json:"joined"`
	Text   string `json:"text"` // who, and why it left
}

// Point is a loss at a number of committed tokens.
type Point struct {
	Tokens uint64  `json:"tokens"`
	Loss   float64 `json:"loss"`
	At     float64 `json:"at"` // seconds since the run's start here
}

// Speed is the rate of training.
type Speed struct {
	TokensPerSecond *float64 `json:"tokens_per_second"` // all workers; on a worker, by commits
	Own             *float64 `json:"own"`
	Step            *float64 `json:"step,omitempty"`     // seconds of this peer's inner step, the median of its newest
	StepP95         *float64 `json:"step_p95,omitempty"` // seconds that one in twenty of them exceeds
	SecondsLeft     *float64 `json:"seconds_left"`
	Classes         []string `json:"classes"` // of devices, in the order of each Rate's
	History         []Rate   `json:"history"` // bounded
}

// Rate is a sum of token rates at a moment.
type Rate struct {
	At    float64 `json:"at"` // seconds since the run's start here
	Rate  float64 `json:"rate"`
	Peers int     `json:"peers"`
	Own   float64 `json:"own"` // of it, this peer's; 0 where it does not train
	// Classes is the rate by class of device; those that are missing at its end are 0.
	Classes []float64 `json:"classes,omitempty"`
}

// Health says whether the run goes well.
type Health struct {
	Training       int    `json:"training"` // on a worker: those that have a slot
	Syncing        int    `json:"syncing"`
	Lost           int    `json:"lost"` // in the last ten minutes
	LastLost       string `json:"last_lost,omitempty"`
	Commits        uint64 `json:"commits"`
	Contributed    int    `json:"contributed,omitempty"` // workers in the newest commit; 0 where that is not known
	FailedAttempts uint64 `json:"failed_attempts"`
	LastFailure    string `json:"last_failure,omitempty"`
	StatesAgree    *bool  `json:"states_agree"` // all workers' state hashes at one height
	Diverged       uint64 `json:"diverged"`
	MicroBatches   uint64 `json:"micro_batches,omitempty"`  // of a run with stages, finished by the trainers that are known
	PartlyCounted  uint64 `json:"partly_counted,omitempty"` // those of them that count in some stages only
	OwnerRestarts  uint64 `json:"owner_restarts"`           // slabs whose sum began with empty error feedback, after their first
}

// Cost is what taking part costs, as the protocol defines its figures.
type Cost struct {
	BitsPerParameter       *float64 `json:"bits_per_parameter"`
	UploadBitsPerParameter *float64 `json:"upload_bits_per_parameter"`
	BytesRatio             *float64 `json:"bytes_ratio_fp32_data_parallel"`
	BytesPerPeerDay        *float64 `json:"bytes_per_peer_day"`
}

// Peer is one worker as the coordinator knows it.
type Peer struct {
	ID                string    `json:"id"`
	Name              string    `json:"name"`
	Slot              uint64    `json:"slot"`
	Stage             int       `json:"stage"` // that it serves, from 0
	You               bool      `json:"you"`
	Alive             bool      `json:"alive"`
	State             string    `json:"state"` // empty where it is not told: a worker does not hear of others'
	Reason            string    `json:"reason,omitempty"`
	Device            string    `json:"device,omitempty"`
	Class             string    `json:"class,omitempty"` // of its device, as in Speed
	Step              uint64    `json:"step"`
	Tokens            uint64    `json:"tokens"`
	Loss              float64   `json:"loss"`
	TokensPerSecond   float64   `json:"tokens_per_second"`
	Utilisation       float64   `json:"utilisation"`
	Sent              uint64    `json:"bytes_sent"`
	Received          uint64    `json:"bytes_received"`
	Height            uint64    `json:"height"`
	StateHash         wire.Hash `json:"state_hash"` // of its memory, at Height
	OuterSteps        uint64    `json:"outer_steps"`
	Overlap           uint64    `json:"overlap_steps"`      // τ: inner steps from a snapshot to the merge of its commit; 0 before the first
	RoundBytes        uint64    `json:"round_bytes"`        // sent for contributions, results and round control
	ContributionBytes uint64    `json:"contribution_bytes"` // encoded contributions
	Clock             uint64    `json:"clock"`              // ms of its own clock at its last word
	SeenSeconds       float64   `json:"seen_seconds"`
	Way               string    `json:"way,omitempty"`     // from this peer to it: "direct", or "relayed"; empty without a connection
	Latency           *float64  `json:"latency,omitempty"` // seconds there and back from this peer, when last tried
}

// Card is a GPU that trains here. A figure that it does not tell is 0.
type Card struct {
	Name        string   `json:"name"`
	Utilisation float64  `json:"utilisation"` // share of the last moment in which it computed
	Used        uint64   `json:"used_bytes"`  // of its memory, by all programs
	Total       uint64   `json:"total_bytes"`
	Temperature float64  `json:"temperature"`         // °C
	Power       float64  `json:"power"`               // W
	PowerLimit  float64  `json:"power_limit"`         // W that its driver lets it take
	Throttled   []string `json:"throttled,omitempty"` // what holds its clocks down
}

// Stage is one stage of the model and who serves it.
type Stage struct {
	Stage      int       `json:"stage"` // from 0
	Parameters uint64    `json:"parameters"`
	Peers      int       `json:"peers"` // that have a slot
	Training   int       `json:"training"`
	StateHash  wire.Hash `json:"state_hash"` // of its fragments
	Wait       *float64  `json:"queue_wait"` // seconds that calls wait at its peers, mean of their own averages
}

// StageMove is a peer's move from one stage to another, and why.
type StageMove struct {
	At   time.Time `json:"at"`
	From int       `json:"from"` // from 0
	To   int       `json:"to"`
	Text string    `json:"text"` // who, and why
}

// Round is one round of one fragment, times in seconds since the run's start
// here; a time is nil while it has not come. The coordinator that leads shows
// those of all workers, a worker its own.
type Round struct {
	Fragment int      `json:"fragment"`
	Base     uint64   `json:"base"`
	Attempt  string   `json:"attempt"`
	Phase    string   `json:"phase"`
	Members  int      `json:"members"`
	Waiting  []string `json:"waiting"`            // for whom and why
	Snapshot *float64 `json:"snapshot,omitempty"` // of the weights, on a worker
	Ready    *float64 `json:"ready"`
	Opened   *float64 `json:"opened"`
	Summed   *float64 `json:"summed"`
	Held     *float64 `json:"held"`
	Closed   *float64 `json:"closed"`
	Merged   *float64 `json:"merged,omitempty"`        // into a worker's weights
	Overlap  uint64   `json:"overlap_steps,omitempty"` // that a worker made from its snapshot to the merge
	Failed   string   `json:"failed,omitempty"`
}

// Transfer is a download under way.
type Transfer struct {
	What        string   `json:"what"` // "data", "checkpoint", "rounds"
	Done        uint64   `json:"done_bytes"`
	Total       uint64   `json:"total_bytes"`
	Donors      int      `json:"donors"`           // that gave something
	Rate        *float64 `json:"bytes_per_second"` // mean so far
	SecondsLeft *float64 `json:"seconds_left,omitempty"`
}

// Sample is what the model of one state wrote; all samples continue one prompt with the same draws.
type Sample struct {
	Height uint64  `json:"height"`
	Tokens uint64  `json:"tokens"` // committed by then
	Loss   float64 `json:"loss"`   // held-out, nats a token
	Prompt string  `json:"prompt"`
	Text   string  `json:"text"`
}

// EntryDetail is all that a ledger entry says, for people.
type EntryDetail struct {
	Entry
	Hash         wire.Hash     `json:"hash"`
	Term         uint64        `json:"term"`
	State        *wire.Hash    `json:"state,omitempty"`        // that a commit results in
	Contributors []Contributor `json:"contributors,omitempty"` // of a commit, in rank order; none when its table is no longer here
	Slabs        []Slab        `json:"slabs,omitempty"`        // of a commit
	Missing      string        `json:"missing,omitempty"`      // why a commit has no table here
}

// Contributor is one worker's part in a commit.
type Contributor struct {
	Rank   int     `json:"rank"`
	Slot   uint64  `json:"slot"`
	Name   string  `json:"name,omitempty"`
	Tokens uint64  `json:"tokens"`
	From   uint64  `json:"from_step"`
	To     uint64  `json:"to_step"`
	Weight uint64  `json:"weight"`
	Clip   float64 `json:"clip"` // factor on its contribution; 1 is none
}

// Slab is one owner's part in a commit.
type Slab struct {
	Slab    uint64 `json:"slab"`
	Owner   string `json:"owner"` // name, or the beginning of the peer id
	Bytes   uint64 `json:"bytes"`
	Members int    `json:"members"` // whose contributions are in the sum
}

// Thanks is who gave a run how much, by the ledger.
type Thanks struct {
	Since  uint64  `json:"since"`  // height of the first commit counted; 0 before one
	Givers int     `json:"givers"` // in all
	Ranks  []Giver `json:"ranks"`  // by tokens, most first: the first hundred, and you
}

// Giver is one peer on the leaderboard.
type Giver struct {
	Rank    int    `json:"rank"` // from 1
	ID      string `json:"id"`
	Name    string `json:"name"`
	You     bool   `json:"you"`
	Tokens  uint64 `json:"tokens"`  // of its contributions in commits, mean over the fragments
	Commits uint64 `json:"commits"` // that it is in
}

// Machine is the computer that this page is of, and what its owner lets dunlin take.
type Machine struct {
	State         string     `json:"state"` // "starting", "training", "paused", "leaving"
	Reason        string     `json:"reason,omitempty"`
	Until         *time.Time `json:"until,omitempty"` // when it goes on by itself
	Paused        bool       `json:"paused"`          // by its owner
	Device        string     `json:"device"`
	Estimate      *float64   `json:"estimated_tokens_per_second"`
	Expects       *Traffic   `json:"expects,omitempty"` // nil where it is not known: on a stage
	Others        float64    `json:"others_cores"`      // that other programs use
	Cores         int        `json:"cores"`
	Battery       bool       `json:"battery"`
	Untold        string     `json:"untold,omitempty"` // what this system does not tell, so that no rule can go by it
	SentToday     uint64     `json:"sent_today_bytes"`
	ReceivedToday uint64     `json:"received_today_bytes"`
	Limits        []Limit    `json:"limits"`
	Log           []Note     `json:"log"` // newest first, bounded
}

// Traffic is the most that rounds are expected to move in a day of training, in bytes.
type Traffic struct {
	Sends    float64 `json:"sent_per_day_bytes"`
	Receives float64 `json:"received_per_day_bytes"`
}

// String says it for people.
func (t Traffic) String() string {
	up, down := Bytes(t.Sends), Bytes(t.Receives)
	if up == down {
		down = "as much"
	}
	return "sends up to " + up + " and receives " + down + " in a day of training"
}

// Limit is one thing that the owner allows, by the name of its flag.
type Limit struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Kind    string `json:"kind"` // "bool", or what a value is
	Usage   string `json:"usage"`
	Allowed string `json:"allowed"`
}

// Entry is a ledger entry in short.
type Entry struct {
	Height uint64 `json:"height"`
	Kind   string `json:"kind"`
	Text   string `json:"text"`
}

// Note is a decision and its reason.
type Note struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}
