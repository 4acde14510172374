package plan

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Config is what is known before a run starts.
type Config struct {
	Groups  []Group
	Model   Model
	Recipes []Recipe // to choose from, the best for learning first
	Tokens  float64  // token budget
	Batch   int      // windows in a worker's inner step; 0 leaves it to the plan
	H       int      // inner steps between two rounds of a fragment; 0 leaves it to the plan
	Given   string   // flags of dunlin coordinator that are decided, for the command that the plan tells

	Pipeline *Pipeline // nil when every peer holds the whole model
}

// Group is peers that are alike.
type Group struct {
	Count   int
	Speed   float64 // tokens a second of each, without a swarm
	Up      float64 // bits a second
	Down    float64 // bits a second
	Latency float64 // seconds there and back
	Churn   float64 // departures an hour of each
	Cores   float64 // processor cores that train; 0 when a GPU does, so that rounds cost training nothing
}

// Model is what the plan needs to know of a shape.
type Model struct {
	Name       string
	Parameters float64
	Layers     int
	Context    int     // tokens in a window
	Apart      float64 // parameters outside of the layers
}

// Recipe is what the plan needs to know of a way of training.
type Recipe struct {
	Name         string
	Contribution float64 // bits a parameter
	Result       float64 // bits a parameter
	OuterLR      float64
	InnerLR      float64
	Fragments    int // at least
}

// Validate lists every fault.
func (c Config) Validate() error {
	var errs []error
	if len(c.Groups) == 0 {
		errs = append(errs, errors.New("plan: no peers"))
	}
	for _, g := range c.Groups {
		if g.Count < 1 || g.Count > 100_000 {
			errs = append(errs, fmt.Errorf("plan: %d peers in a group: 1 to 100,000 are allowed", g.Count))
		}
		for _, f := range []struct {
			what      string
			v         float64
			low, high float64
		}{
			{"tokens a second", g.Speed, 1e-3, 1e9},
			{"bits a second up", g.Up, 1, 1e13},
			{"bits a second down", g.Down, 1, 1e13},
			{"seconds of latency", g.Latency, 0, 60},
			{"departures an hour", g.Churn, 0, 3600},
			{"cores", g.Cores, 0, 4096},
		} {
			if !(f.v >= f.low && f.v <= f.high) {
				errs = append(errs, fmt.Errorf("plan: %v %s: %v to %v are allowed", f.v, f.what, f.low, f.high))
			}
		}
	}
	if m := c.Model; !(m.Parameters >= 1 && m.Parameters <= 1e13) || m.Layers < 1 || m.Context < 1 || !(m.Apart >= 0 && m.Apart <= m.Parameters) {
		errs = append(errs, fmt.Errorf("plan: model of %v parameters in %d layers with %d tokens of context", m.Parameters, m.Layers, m.Context))
	}
	if len(c.Recipes) == 0 {
		errs = append(errs, errors.New("plan: no recipe to choose from"))
	}
	if !(c.Tokens >= 1 && c.Tokens <= 1e17) {
		errs = append(errs, fmt.Errorf("plan: token budget of %v", c.Tokens))
	}
	if c.Pipeline != nil {
		errs = append(errs, c.Pipeline.validate())
	}
	if c.Batch < 0 || c.H < 0 {
		errs = append(errs, fmt.Errorf("plan: batch %d, H %d: 0 leaves them to the plan", c.Batch, c.H))
	}
	return errors.Join(errs...)
}

// Bounds and shares of the plan (protocol, R3).
const (
	LargestH     = 500
	smallestH    = 20
	share        = 0.6  // of a usable link that rounds may take
	usable       = 0.85 // of a link's rate
	longest      = 8    // steps that a fragment's way may take
	patientSteps = 10   // overlap in steps above which the outer learning rate is lowered
	members      = 64   // of a round at most
	maxFragments = 64
	maxBatch     = 4096
)

// What rounds cost a worker's processor besides training, and its link besides frames. Fitted to measurements (nano,
// int8, four workers on two cores: efficiency 0.81 and 0.87, 14.4 bits sent for 12.0 in frames).
const (
	roundSeconds     = 0.025 // of one core, a round
	parameterSeconds = 40e-9 // of one core, a parameter and round
	overhead         = 1.2   // bytes sent ÷ bytes of frames
)

// trips is how often a round goes there and back: ready and open, slabs, results, have and commit.
const trips = 4

// usualLatency is seconds there and back on links of homes.
const usualLatency = 0.05

// stateBytes a parameter are what a joiner loads: weights and outer momentum.
const stateBytes = 8

// Plan is what is to be expected of a run, and what to choose.
type Plan struct {
	Model      string  `json:"model"`
	Parameters float64 `json:"parameters"`
	Peers      int     `json:"peers"`
	Works      bool    `json:"works"`
	// Reasons say why it cannot work, Advice what would make it work or better.
	Reasons []string `json:"reasons"`
	Advice  []string `json:"advice"`

	// What to choose.
	Recipe    string  `json:"recipe"`
	H         int     `json:"h"`
	LeastH    int     `json:"least_h"` // that the links allow, H* of R3
	Fragments int     `json:"fragments"`
	Batch     int     `json:"worker_batch"` // windows
	OuterLR   float64 `json:"outer_lr"`
	InnerLR   float64 `json:"lr"`

	// What to expect.
	StepSeconds    float64  `json:"step_seconds"`  // of the median worker
	LinkRate       float64  `json:"link_rate"`     // bits a second of the quarter of the peers with the slowest links
	BitsSent       float64  `json:"bits_sent"`     // a parameter and outer step
	Overlap        float64  `json:"overlap_steps"` // inner steps that a round takes
	Load           float64  `json:"link_load"`     // share of the usable link that rounds take
	Utilisation    float64  `json:"utilisation"`   // share of the time in inner steps
	Efficiency     float64  `json:"efficiency"`    // tokens a second with rounds ÷ without
	Available      float64  `json:"available"`     // share of the time in training between leaving and coming back
	TokensPerSec   float64  `json:"tokens_per_second"`
	BytesPerDay    float64  `json:"bytes_per_peer_day"` // sent
	Days           float64  `json:"days"`
	Loss           *float64 `json:"loss"`             // nats a token; nil where no law holds
	DataParallel   float64  `json:"data_parallel"`    // utilisation of fp32 data-parallel over the same links
	BlockingDiLoCo float64  `json:"blocking_diloco"`  // of fp32 DiLoCo that waits, with the same H
	JoinSeconds    float64  `json:"join_seconds"`     // that a newcomer loads
	FP32Ratio      float64  `json:"fp32_bytes_ratio"` // bytes that fp32 data-parallel sends ÷ those of this plan

	Pipeline *Pipeline `json:"pipeline,omitempty"` // with stages, the plan's rounds are those of the largest

	given     string
	timetable Timetable
}

// Make plans a run. It fails only when the configuration is faulty; a run that cannot work is a plan that says so.
func Make(c Config) (*Plan, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var plans []*Plan
	for _, r := range c.Recipes {
		p := c.with(r)
		if p.Works && p.LeastH <= 100 {
			return p, nil
		}
		plans = append(plans, p)
	}
	return slices.MinFunc(plans, func(a, b *Plan) int { return cmp.Compare(a.LeastH, b.LeastH) }), nil
}

// with plans the run with one recipe.
func (c Config) with(r Recipe) *Plan {
	peers, whole := c.swarm().peers, c.Model.Parameters
	if c.Pipeline != nil {
		c = c.ofStage()
	}
	s := c.swarm()
	m := c.Model
	p := &Plan{
		Model: m.Name, Parameters: whole, Peers: peers, Pipeline: c.Pipeline, Recipe: r.Name, OuterLR: r.OuterLR, InnerLR: r.InnerLR,
		Reasons: []string{}, Advice: []string{}, LinkRate: s.link, Batch: c.Batch, given: c.Given,
	}
	contributors := float64(min(s.peers, members))
	if p.Batch == 0 {
		p.Batch = int(min(max(math.Round(bestBatch(whole, contributors)/contributors/float64(m.Context)), 1), maxBatch))
	}
	if lawHolds(whole) {
		p.InnerLR = bestRate(whole, contributors)
	}
	p.StepSeconds = float64(p.Batch*m.Context) / s.speed
	others := (contributors - 1) / contributors
	p.BitsSent = bitsSent(r.Contribution+r.Result, contributors)
	sent := m.Parameters * (r.Contribution + r.Result) * others // bits, of frames
	p.LeastH = int(min(math.Ceil(sent/(share*usable*s.link*p.StepSeconds)), math.MaxInt32))
	if p.H = c.H; p.H == 0 {
		p.H = min(max(smallestH, p.LeastH), LargestH)
	}
	p.Fragments = c.fragments(r, sent/(usable*s.link), p.StepSeconds)
	way := c.largestFragment(p.Fragments)*sent/(usable*s.link) + trips*s.latency
	p.Overlap = way / p.StepSeconds
	p.Load = sent / (usable * s.link * float64(p.H) * p.StepSeconds)
	if p.Overlap > patientSteps {
		p.OuterLR *= 4.0 / 7
		p.Advice = append(p.Advice, fmt.Sprintf("a round takes %.0f inner steps: the outer learning rate is lowered for that", p.Overlap))
	}
	c.expect(p, s, sent)
	c.judge(p, r, s)
	return p
}

// expect fills in what follows from the choices.
func (c Config) expect(p *Plan, s swarm, sent float64) {
	m := c.Model
	p.timetable = Timetable{
		Layers: m.Layers, Step: p.StepSeconds, Bits: sent / usable, Rate: s.link, H: p.H,
		Fragment: max(1, m.Layers/max(1, p.Fragments-1)), Overlap: max(1, p.H-p.H/(p.Fragments+1)-1),
	}
	if p.Fragments < 3 {
		p.timetable.Fragment = m.Layers / p.Fragments
	}
	p.Utilisation = p.timetable.Utilisation()
	p.Efficiency = p.Utilisation * (1 - s.roundsCost(m.Parameters, float64(p.Fragments), float64(p.H)*p.StepSeconds))
	p.JoinSeconds = stateBytes*8*m.Parameters/(usable*s.down) + trips*s.latency
	lost := s.churn / 3600 * (p.JoinSeconds + float64(p.H)*p.StepSeconds/2)
	p.Available = max(0, 1-lost)
	p.TokensPerSec = s.total * p.Efficiency * p.Available
	interval := float64(p.H) * p.StepSeconds / max(p.Efficiency, 1e-9)
	p.BytesPerDay = bytesPerDay(m.Parameters, p.BitsSent, interval)
	p.Days = c.Tokens / max(p.TokensPerSec, 1e-9) / 86400
	if lawHolds(p.Parameters) {
		l := loss(p.Parameters, float64(min(s.peers, members)), c.Tokens, float64(p.H))
		p.Loss = &l
	}
	fp32 := 32 * m.Parameters
	p.DataParallel = Timetable{Layers: m.Layers, Step: p.StepSeconds, Bits: 2 * fp32, Rate: s.link, H: 1}.Utilisation()
	p.BlockingDiLoCo = Timetable{Layers: m.Layers, Step: p.StepSeconds, Bits: 2 * fp32, Rate: s.link, H: p.H}.Utilisation()
	if p.BitsSent > 0 {
		p.FP32Ratio = float64(p.H) * 32 / p.BitsSent
	}
}

// bitsSent is what one of so many contributors sends a parameter and outer step, headers included, where contributions and
// results together take so many bits.
func bitsSent(codecs, contributors float64) float64 {
	return overhead * codecs * (contributors - 1) / contributors
}

// bytesPerDay is what that comes to in a day of outer steps that many seconds apart.
func bytesPerDay(parameters, sent, interval float64) float64 {
	return 86400 / max(interval, 1e-9) * parameters * sent / 8
}

// Traffic returns about how many bytes one worker sends in a day of training, and as many that it receives: slices of
// contributions and sums, headers included. It is the most, since a round of few contributors moves less. The codecs take
// so many bits a parameter together, h inner steps of so many tokens lie between two rounds unless a round takes longer, and
// the worker makes tokensPerSecond.
func Traffic(parameters, codecs, h, tokensPerStep, tokensPerSecond float64) float64 {
	return bytesPerDay(parameters, bitsSent(codecs, members), max(h*tokensPerStep/tokensPerSecond, trips*usualLatency))
}

// fragments is the smallest count whose fragment is on its way for at most 8 steps, no less than the recipe's and a
// third of the layers, no more than one a layer and one for what is apart, which more fragments do not make smaller
// (R3). transfer is the whole model's seconds.
func (c Config) fragments(r Recipe, transfer, step float64) int {
	most := min(c.Model.Layers+1, maxFragments)
	if c.Model.Layers < 2 {
		most = 1
	}
	n := min(max((c.Model.Layers+2)/3, r.Fragments, 1), most)
	apart := c.Model.Apart / c.Model.Parameters
	for n < most && c.largestFragment(n)*transfer > longest*step && (n < 3 || c.largestFragment(n) > apart) {
		n++
	}
	return n
}

// largestFragment is its share of the parameters, of n: what is apart is one of its own from three on.
func (c Config) largestFragment(n int) float64 {
	apart := c.Model.Apart / c.Model.Parameters
	if n < 3 {
		return max(1/float64(n), apart)
	}
	return max(apart, (1-apart)/float64(n-1))
}

// judge says whether the run can work.
func (c Config) judge(p *Plan, r Recipe, s swarm) {
	bad := func(format string, args ...any) { p.Reasons = append(p.Reasons, fmt.Sprintf(format, args...)) }
	better := func(format string, args ...any) { p.Advice = append(p.Advice, fmt.Sprintf(format, args...)) }
	if p.LeastH > LargestH {
		bad("the links carry a round only every %d inner steps, and above %d training no longer gains from others", p.LeastH, LargestH)
		better("give at least %s of upload and download to every peer, a larger batch, a smaller model, or codecs of fewer bits", bits(s.link*float64(p.LeastH)/LargestH))
	}
	if p.LeastH <= LargestH && p.H < p.LeastH {
		bad("H %d is less than the %d that the links allow: rounds would take longer than the steps between them", p.H, p.LeastH)
		better("choose --h %d or leave it out", p.LeastH)
	}
	if p.H > LargestH {
		bad("H %d is above %d", p.H, LargestH)
	}
	if p.Available < 0.5 {
		bad("peers leave %.2g times an hour, and coming back takes %.0f s of loading and half an interval of lost steps: more than half of the time goes into that", s.churn, p.JoinSeconds)
		better("keep peers for longer, or choose a smaller model")
	}
	if s.peers == 1 {
		better("one peer alone trains without a swarm: dunlin train")
	}
	if s.peers > members {
		better("of %d peers, %d contribute to a round, in turn", s.peers, members)
	}
	if s.peers > 8 && r.OuterLR >= 0.7 {
		better("published losses grow by 1 to 4 %% from one to eight replicas; more of them train faster, not better")
	}
	p.Works = len(p.Reasons) == 0
}

// swarm is what the groups are together.
type swarm struct {
	peers   int
	speed   float64 // median
	total   float64 // tokens a second of all
	link    float64 // 25th percentile of the narrower direction
	down    float64 // median
	latency float64 // the largest that one in ten exceeds
	churn   float64 // mean
	groups  []Group
}

func (c Config) swarm() swarm {
	s := swarm{groups: c.Groups}
	for _, g := range c.Groups {
		s.peers += g.Count
		s.total += float64(g.Count) * g.Speed
		s.churn += float64(g.Count) * g.Churn
	}
	s.churn /= float64(s.peers)
	s.speed = c.quantile(0.5, func(g Group) float64 { return g.Speed })
	s.link = c.quantile(0.25, func(g Group) float64 { return min(g.Up, g.Down) })
	s.down = c.quantile(0.5, func(g Group) float64 { return g.Down })
	s.latency = c.quantile(0.9, func(g Group) float64 { return g.Latency })
	return s
}

// quantile is the value below which that share of the peers is.
func (c Config) quantile(q float64, of func(Group) float64) float64 {
	sorted := slices.SortedFunc(slices.Values(c.Groups), func(a, b Group) int { return cmp.Compare(of(a), of(b)) })
	n := 0
	for _, g := range sorted {
		n += g.Count
	}
	rank := int(q * float64(n-1))
	for _, g := range sorted {
		if rank -= g.Count; rank < 0 {
			return of(g)
		}
	}
	return of(sorted[len(sorted)-1])
}

// roundsCost is the share of the processors that rounds take from training in an interval of that many seconds, as a
// mean over peers by speed.
func (s swarm) roundsCost(parameters, fragments, interval float64) float64 {
	work := fragments*roundSeconds + parameters*parameterSeconds
	var cost float64
	for _, g := range s.groups {
		if g.Cores > 0 {
			cost += float64(g.Count) * g.Speed * work / (work + g.Cores*interval)
		}
	}
	return cost / s.total
}
