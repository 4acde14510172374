package status

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// metrics writes the newest snapshot in Prometheus' text format (version
// 0.0.4). Figures that are not known are left out.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	e := s.newest(w)
	if e == nil {
		return
	}
	var b metricText
	n := finite(e.snapshot)
	run := label("run", n.Run.ID.String())
	b.head("dunlin_info", "gauge", "1, with what runs here in its labels")
	b.row("dunlin_info", label("version", n.Version)+","+run+","+label("role", n.Role)+","+label("phase", n.Run.Phase), 1)
	b.one("dunlin_height", "gauge", "entries of the ledger here", float64(n.Run.Height))
	b.one("dunlin_term", "gauge", "term of the coordinator", float64(n.Run.Term))
	b.one("dunlin_parameters", "gauge", "parameters of the model", float64(n.Run.Parameters))
	b.one("dunlin_tokens_committed", "gauge", "tokens committed in the run", float64(n.Run.Tokens))
	b.one("dunlin_token_budget", "gauge", "tokens the run is to take", float64(n.Run.TokenBudget))
	b.maybe("dunlin_loss_train", "training loss of the workers, nats a token", n.Learning.Train)
	b.maybe("dunlin_loss_held_out", "held-out loss of the global model, nats a token", n.Learning.HeldOut)
	b.maybe("dunlin_tokens_per_second", "tokens a second of all workers", n.Speed.TokensPerSecond)
	b.maybe("dunlin_step_seconds", "an inner step here, the median of the newest", n.Speed.Step)
	b.maybe("dunlin_step_p95_seconds", "what one in twenty of the newest inner steps here exceeds", n.Speed.StepP95)
	b.one("dunlin_workers_training", "gauge", "workers that train", float64(n.Health.Training))
	b.one("dunlin_workers_syncing", "gauge", "workers on their way to training", float64(n.Health.Syncing))
	b.one("dunlin_workers_lost", "gauge", "workers lost in the last ten minutes", float64(n.Health.Lost))
	b.one("dunlin_commits_total", "counter", "commits seen here", float64(n.Health.Commits))
	b.one("dunlin_failed_attempts_total", "counter", "attempts of rounds that failed", float64(n.Health.FailedAttempts))
	b.one("dunlin_owner_restarts_total", "counter", "slabs whose sum began with empty error feedback", float64(n.Health.OwnerRestarts))
	b.one("dunlin_diverged_total", "counter", "replicas found with another state", float64(n.Health.Diverged))
	b.maybe("dunlin_contribution_bytes_per_parameter", "bytes of contributions that a worker sends, a parameter and outer step", inBytes(n.Cost.BitsPerParameter))
	b.maybe("dunlin_upload_bytes_per_parameter", "bytes of its socket that a worker sends for rounds, a parameter and outer step", inBytes(n.Cost.UploadBitsPerParameter))
	b.maybe("dunlin_bytes_ratio_fp32_data_parallel", "bytes that fp32 data-parallel would send, as a multiple of these", n.Cost.BytesRatio)
	b.workers(n.Peers)
	b.cards(n.Cards)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	fmt.Fprint(w, b.String())
}

// inBytes turns a figure in bits into bytes, the unit of Prometheus.
func inBytes(bits *float64) *float64 {
	if bits == nil {
		return nil
	}
	bytes := *bits / 8
	return &bytes
}

// metricText collects lines of the format.
type metricText struct{ strings.Builder }

func (b *metricText) head(name, kind, help string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (b *metricText) row(name, labels string, v float64) {
	fmt.Fprintf(b, "%s{%s} %s\n", name, labels, strconv.FormatFloat(v, 'g', -1, 64))
}

func (b *metricText) one(name, kind, help string, v float64) {
	b.head(name, kind, help)
	fmt.Fprintf(b, "%s %s\n", name, strconv.FormatFloat(v, 'g', -1, 64))
}

func (b *metricText) maybe(name, help string, v *float64) {
	if v != nil {
		b.one(name, "gauge", help, *v)
	}
}

// workers writes one row a live worker under each name.
func (b *metricText) workers(peers []Peer) {
	for _, m := range []struct {
		name, kind, help string
		of               func(*Peer) float64
	}{
		{"dunlin_worker_tokens_total", "counter", "tokens that a worker trained on in its slot", func(p *Peer) float64 { return float64(p.Tokens) }},
		{"dunlin_worker_tokens_per_second", "gauge", "tokens a second of a worker", func(p *Peer) float64 { return p.TokensPerSecond }},
		{"dunlin_worker_utilisation", "gauge", "share of its time that a worker is in inner steps, 0 to 1", func(p *Peer) float64 { return p.Utilisation }},
		{"dunlin_worker_sent_bytes_total", "counter", "bytes that a worker sent", func(p *Peer) float64 { return float64(p.Sent) }},
		{"dunlin_worker_received_bytes_total", "counter", "bytes that a worker received", func(p *Peer) float64 { return float64(p.Received) }},
	} {
		b.head(m.name, m.kind, m.help)
		for i := range peers {
			if p := &peers[i]; p.Alive {
				b.row(m.name, label("slot", strconv.FormatUint(p.Slot, 10)), m.of(p))
			}
		}
	}
}

// cards writes one row a card under each name.
func (b *metricText) cards(cards []Card) {
	if len(cards) == 0 {
		return
	}
	for _, m := range []struct {
		name, help string
		of         func(*Card) float64
	}{
		{"dunlin_gpu_utilisation", "share of the last moment in which the GPU computed, 0 to 1", func(c *Card) float64 { return c.Utilisation }},
		{"dunlin_gpu_memory_used_bytes", "GPU memory in use, by all programs", func(c *Card) float64 { return float64(c.Used) }},
		{"dunlin_gpu_memory_bytes", "GPU memory", func(c *Card) float64 { return float64(c.Total) }},
		{"dunlin_gpu_temperature_celsius", "GPU temperature", func(c *Card) float64 { return c.Temperature }},
		{"dunlin_gpu_power_watts", "GPU power", func(c *Card) float64 { return c.Power }},
		{"dunlin_gpu_power_limit_watts", "power that the driver lets the GPU take", func(c *Card) float64 { return c.PowerLimit }},
		{"dunlin_gpu_throttled", "1 while something holds the GPU's clocks down", func(c *Card) float64 {
			if len(c.Throttled) > 0 {
				return 1
			}
			return 0
		}},
	} {
		b.head(m.name, "gauge", m.help)
		for i := range cards {
			b.row(m.name, label("gpu", strconv.Itoa(i))+","+label("name", cards[i].Name), m.of(&cards[i]))
		}
	}
}

// label writes name="value"; remote text may be anything.
func label(name, value string) string {
	return name + `="` + strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(strings.ToValidUTF8(value, "?")) + `"`
}
