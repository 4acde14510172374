package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"dunlin/allowance"
	"dunlin/checkpoint"
	"dunlin/compute"
	"dunlin/model"
	"dunlin/optimizer"
	"dunlin/recipe"
	"dunlin/status"
	"dunlin/training"
	"dunlin/wire"
)

// Config holds every setting of every command. A setting comes from, in this order: the flag --key, the environment
// variable DUNLIN_KEY (upper case, _ for -), the YAML file named by --config, the default. The functions below give
// each field its key, default, allowed values and meaning.
type Config struct {
	LogFormat string // how logs look: "text" or "json"
	JSON      bool   // results as one JSON object

	Data       string  // a file, a folder or a glob of text; "" is the Go source tree of this machine
	Preset     string  // the model's shape
	vocabulary int     // of the data, once they are open
	Weights    string  // folder of the weights that training begins with; "" draws them
	Context    int     // tokens in a window; 0 is the shape's
	Steps      int     // optimizer steps of the whole training
	Batch      int     // training windows in one micro-batch
	LR         float64 // peak learning rate; in train 0 is the optimizer's own
	Decay      float64 // decoupled weight decay
	Clip       float64 // largest norm of the whole gradient
	Warmup     float64 // share of the steps over which the learning rate rises
	Optimizer  string  // what makes the steps
	Schedule   string  // course of the learning rate
	Cooldown   float64 // share of the steps over which the learning rate of wsd falls
	EMA        float64 // decay of the average of the weights; 0 is none
	Average    bool    // use that average instead of the weights
	Number     string  // how an exported folder writes its values
	At         int     // ledger height of a run's model; 0 takes the newest
	Universal  bool    // export everything, one blob for each parameter and kind
	Micros     int     // micro-batches in one step
	Adaptive   bool    // more of them as the gradient noise scale grows
	Seed       uint64  // of initial weights, data order and sampling
	Device     string  // what computes
	GPU        bool    // doctor looks at GPUs
	Kernels    string  // which CPU kernels
	Precision  string  // number format of the training step
	Threads    int     // of the CPU; 0 is all
	Profile    bool    // bench train times operations
	Memory     int64   // bytes that this process may have resident; 0 is no limit
	Duty       float64 // share of the time that training takes
	Out        string  // folder of the checkpoint
	SaveEvery  int     // steps between checkpoints; 0 saves at the end only
	LogEvery   int     // steps between log lines
	Positions  int     // of the window that bench kernels emulates
	Windows    int     // most held-out windows to measure the loss on; 0 is all
	Measure    bool    // a coordinator measures it

	Prompt      string  // text to continue
	Bytes       int     // bytes to generate
	Temperature float64 // of sampling; 0 takes the likeliest byte
	TopK        int     // sample among the K likeliest; 0 is all
	TopP        float64 // sample among the likeliest that together hold this probability

	Seconds float64 // time to measure for

	DataDir   string  // where state lives; "" is below the XDG data folder
	Port      int     // of the swarm's listening addresses; 0 takes free ones
	Address   string  // where others reach this machine from outside; empty where it can tell itself
	Loopback  bool    // reachable from this machine only
	MDNS      bool    // find peers of the run on the local network
	Verbose   bool    // log every decision
	NAT       bool    // ask the router for a port, meet others half way
	Relay     bool    // pass control on for peers that cannot be dialled
	Up, Down  int     // most bits a second to send and to receive; 0 is no limit
	Disk      float64 // GB that old bytes may take before they are let go
	Paged     bool    // outer momentum lies in files, not in memory
	Listen    string  // address of the web page
	PageToken string  // of those who read it from elsewhere

	UpPerDay       int64           // most bytes to send between two midnights; 0 is no limit
	DownPerDay     int64           // most bytes to receive, likewise
	Hours          allowance.Hours // when to train
	PauseWhenBusy  bool            // while others use the processor
	PauseOnBattery bool
	Cards          training.CardLimits // of GPUs

	Name            string  // of the run, for people
	Coordinators    int     // of the run
	Tokens          int     // token budget of the run
	WorkerBatch     int     // windows in a worker's inner step
	H               int     // inner steps between two rounds of a fragment
	Fragments       int     // of the model
	Stages          int     // that the model is spread over, each on peers of its own
	Activations     string  // codec of what passes between stages
	Subspace        int     // values of a position that pass between stages; 0 is all
	Micro           int     // windows in a micro-batch of a run with stages
	Rebalance       float64 // seconds between two looks whether a peer should change its stage
	Together        bool    // peers of all stages make each inner step together
	OuterLR         float64 // outer learning rate
	Momentum        float64 // outer momentum
	Recipe          string  // what belongs together of codecs, error feedback, merge and optimizers
	Contributions   string  // codec; "" is the recipe's, as 0 is of numbers
	Results         string  // codec
	CheckpointEvery int     // commits between two checkpoints
	Private         bool    // the invite holds a secret
	Export          string  // folder for the run's model when it ends
	Init            bool    // write a file of settings instead
	ControlStdin    bool    // orders come on the standard input

	Watch bool // show a page's figures again and again

	Peers  []planned // who would train
	Figure string    // file of a plan's figure

	Workers int  // of a swarm on this machine
	Chaos   bool // kill and replace them

	Tokenizer string  // byte, gpt2, or where a tokenizer.json is
	EndOfText string  // text of the token that ends a document; "" takes the first known one
	Format    string  // of documents
	Field     string  // that holds a document's text
	Dtype     string  // of token files
	HeldOut   float64 // share of the documents that are held out
	FileSize  int     // tokens in a file at most
	Vocab     int     // tokens to learn
	Limit     float64 // MB of text to learn from; 0 is all
}

// everyOption lists the options of all commands, as a configuration file may name any of them.
func everyOption(c *Config) []option {
	var all []option
	for _, group := range [][]option{c.global(), c.compute(), c.training(), c.sampling()} {
		all = append(all, group...)
	}
	all = append(all, c.run()...)
	all = append(all, c.network()...)
	all = append(all, c.limits()...)
	all = append(all, c.local(0, "")...)
	all = append(all, c.preparing()...)
	all = append(all, c.learning()...)
	all = append(append(all, c.exporting()...), c.relay())
	all = append(all, c.spread()...)
	return append(all, c.windows(0), c.seed(), c.seconds(5), c.page(), c.control(), c.average(), c.memory(), c.profile(), yes(&c.Chaos, "chaos", ""),
		groups(&c.Peers, "peers"), c.pageToken(), c.coordinators(), text(&c.Figure, "svg", "", "path", ""),
		yes(&c.GPU, "gpu", ""), yes(&c.Watch, "watch", ""), whole(&c.Positions, "positions", 512, 32, 4096, ""))
}

// run lists what an organiser chooses.
func (c *Config) run() []option {
	return []option{
		needed(&c.Name, "name", "a dunlin run", "text", "of the run, for people"),
		text(&c.Data, "data", "", "path", "a file, a folder or a quoted glob of text, or a folder that dunlin data prepare made; without it, the Go source tree of this machine"),
		c.preset(model.Presets()...),
		whole(&c.Tokens, "tokens", 10_000_000, 1, 1<<56, "token budget; the run ends when so many are committed"),
		whole(&c.WorkerBatch, "worker-batch", 2, 1, 4096, "training windows in one inner step of a worker"),
		c.recipe(), c.steps(), c.parts(), c.rate(),
		number(&c.OuterLR, "outer-lr", 0, 0, 2, "outer learning rate; 0 takes the recipe's"),
		number(&c.Momentum, "momentum", -1, -1, 0.95, "outer momentum (Nesterov); -1 takes the recipe's"),
		codec(&c.Contributions, "contributions", "how contributions become bytes; without it, as the recipe says"),
		codec(&c.Results, "results", "how results become bytes; without it, as the recipe says"),
		whole(&c.CheckpointEvery, "checkpoint-every", 24, 1, 1<<20, "commits between two checkpoints"),
		yes(&c.Private, "private", "only who has the invite may join"),
		text(&c.Export, "out", "", "path", "folder for the run's model when the run ends"),
		on(&c.Measure, "held-out", "measure the loss on held-out text, for which the coordinator holds the model a second time; off where memory is short"), c.windows(128),
	}
}

// local lists what shapes a swarm of processes on this machine.
func (c *Config) local(seconds float64, out string) []option {
	return []option{
		whole(&c.Workers, "workers", 4, 1, 64, "worker processes"),
		number(&c.Seconds, "seconds", seconds, 1, 86400, "seconds that it takes"),
		text(&c.Data, "data", "", "path", "a file, a folder or a quoted glob of text, or a folder that dunlin data prepare made; without it, the Go source tree of this machine"),
		needed(&c.Out, "out", out, "path", "folder of the processes' data, logs and model, made anew"),
		c.preset(model.Presets()...),
		c.computer(deviceCPU),
		whole(&c.Threads, "threads", 1, 1, 1024, "CPU threads of each worker"),
		whole(&c.WorkerBatch, "worker-batch", 2, 1, 4096, "training windows in one inner step of a worker"),
		c.recipe(), c.steps(), c.parts(), c.rate(),
		bandwidth(&c.Up, "up", "most that each worker sends, headers included; without it, what the machine gives"),
		bandwidth(&c.Down, "down", "most that each worker receives, headers included"),
		yes(&c.Verbose, "verbose", "log every decision and its reason"),
		c.seed(),
	}
}

func (c *Config) recipe() option {
	return choice(&c.Recipe, "recipe", "default", "how the swarm trains: codecs, error feedback, merge rule and optimizers that belong together", recipe.Names()...)
}

func (c *Config) steps() option {
	return whole(&c.H, "h", 0, 0, wire.MaxH, "inner steps between two rounds of a fragment; 0 takes the recipe's")
}

func (c *Config) parts() option {
	return whole(&c.Fragments, "fragments", 0, 0, wire.MaxFragments, "parts of the model that are synchronised one by one; 0 takes the recipe's, of a million parameters or more")
}

func (c *Config) rate() option {
	return number(&c.LR, "lr", 0, 0, 10, "peak of the inner learning rate; 0 takes the recipe's")
}

// chosen returns the recipe with what the other settings say otherwise.
func (c *Config) chosen() (recipe.Recipe, error) {
	r, err := recipe.Named(c.Recipe)
	if err != nil {
		return r, err
	}
	if c.Stages > 1 {
		r = r.Staged(c.Together)
	}
	shape, err := c.shape()
	if err != nil {
		return r, err
	}
	r.H, r.Fragments = cmp.Or(c.H, r.H), cmp.Or(c.Fragments, r.FragmentsOf(shape.Parameters()))
	r.LR, r.OuterLR = cmp.Or(c.LR, r.LR), cmp.Or(c.OuterLR, r.OuterLR)
	r.Contribution, r.Result = cmp.Or(c.Contributions, r.Contribution), cmp.Or(c.Results, r.Result)
	if c.Momentum >= 0 {
		r.Momentum = c.Momentum
	}
	return r, nil
}

// controlKey is the one setting that is for programs, not for people: help does not show it.
const controlKey = "control-stdin"

func (c *Config) control() option {
	return yes(&c.ControlStdin, controlKey, "take orders from the standard input, and leave when it ends")
}

// network lists where a peer keeps its state and how it is reached.
func (c *Config) network() []option {
	return []option{
		text(&c.DataDir, "data-dir", "", "path", "folder of keys and state; without it, one below the XDG data folder"),
		whole(&c.Port, "port", 0, 0, 65534, "port of the swarm, TCP and UDP; bulk takes the next one; 0 takes free ones, on a coordinator those of last time"),
		c.address(),
		yes(&c.Loopback, "loopback", "reachable from this machine only"),
		yes(&c.MDNS, "mdns", "find peers of the run on the local network"),
		yes(&c.Verbose, "verbose", "log every decision and its reason"),
		on(&c.NAT, "nat", "ask the router for a port, and meet peers that cannot be dialled half way; off with --loopback"),
		c.up(), c.down(), c.disk(),
		yes(&c.Paged, "momentum-on-disk", "keep the outer optimizer's momentum in the data folder, from where the system reads it when it is needed: 4 bytes a parameter less memory, and as much again while a commit is prepared; Linux only"),
	}
}

func (c *Config) up() option {
	return bandwidth(&c.Up, "up", "most that it sends, headers included; without it, what the link gives")
}

func (c *Config) down() option {
	return bandwidth(&c.Down, "down", "most that it receives, headers included")
}

func (c *Config) disk() option {
	return number(&c.Disk, "disk", 20, 0.1, 1e6, "GB of results and checkpoints to keep before the oldest unneeded are let go")
}

func (c *Config) coordinators() option {
	return option{"coordinators", "of the run, on as many machines; with 3 any 1, with 5 any 2 may be away", "n", "1", "1, 3 or 5", func(text string) error {
		switch text {
		case "1", "3", "5":
			c.Coordinators = int(text[0] - '0')
			return nil
		}
		return errors.New("not an odd number of coordinators up to 5, which a majority needs")
	}}
}

func (c *Config) relay() option {
	return yes(&c.Relay, "relay", "on a machine that all can dial: pass control messages (at most 8 MB an hour and peer) on for peers that nobody can")
}

func (c *Config) page() option {
	return option{"listen", "address of the web page; port 0 takes a free one", "address", status.Loopback, "host:port of this machine", func(text string) error {
		if err := (status.Config{Listen: text, Token: anyToken}).Validate(); err != nil { // clash asks for a token of its own
			return err
		}
		c.Listen = text
		return nil
	}}
}

// anyToken passes for a token where only the address is checked.
var anyToken = strings.Repeat("x", 26)

// newToken makes a token at each start.
const newToken = "new"

func (c *Config) pageToken() option {
	return option{
		"page-token", "lets those who have it read the page from elsewhere, and nothing else; needed to listen on another address than loopback; new makes one at each start", "text", "",
		"16 or more of A-Z a-z 0-9 - _, or new", func(text string) error {
			if text == newToken {
				text = rand.Text()
			}
			if err := (status.Config{Token: text}).Validate(); err != nil {
				return err
			}
			c.PageToken = text
			return nil
		},
	}
}

// quota is the disk budget in bytes.
func (c *Config) quota() int64 { return int64(c.Disk * 1e9) }

func (c *Config) global() []option {
	return []option{
		choice(&c.LogFormat, "log-format", "text", "how logs look on stderr", "text", "json"),
		yes(&c.JSON, "json", "print the result as one JSON object on stdout"),
	}
}

func (c *Config) compute() []option {
	return []option{
		c.computer(deviceAuto),
		choice(&c.Kernels, "kernels", "auto", "which CPU kernels; auto takes the fastest that this machine has", "auto", "portable", "avx2", "avx512", "neon"),
		c.threads(),
	}
}

func (c *Config) threads() option {
	return whole(&c.Threads, "threads", 0, 0, 1024, "CPU threads; 0 takes all")
}

func (c *Config) memory() option {
	return memory(&c.Memory, "memory", "that this process may take; what does not fit passes the model in parts, or is computed again")
}

func (c *Config) training() []option {
	return []option{
		text(&c.Data, "data", "", "path", "a file, a folder or a quoted glob of text, or what dunlin data prepare made: DIR, or DIR@3,DIR@1 for a mixture; without it, the Go source tree of this machine"),
		c.preset(model.Presets()...),
		text(&c.Weights, "weights", "", "path", "a checkpoint, or a folder of Hugging Face's, whose weights and shape training begins with, instead of drawing them by --preset; the optimizer starts afresh"),
		whole(&c.Steps, "steps", 1000, 1, 1_000_000_000, "optimizer steps of the whole training"),
		c.context(),
		c.batch(),
		c.optimizer(),
		number(&c.LR, "lr", 0, 0, 10, "peak learning rate; 0 takes the optimizer's own"),
		choice(&c.Schedule, "schedule", string(optimizer.Cosine), "course of the learning rate after its rise", optimizer.Shapes()...),
		number(&c.Cooldown, "cooldown", 0.2, 0.001, 1, "share of the steps over which the learning rate of wsd falls"),
		number(&c.Decay, "weight-decay", 0.1, 0, 1, "decoupled weight decay; sgd wants 0.001 or less"),
		number(&c.Clip, "clip", 1, 1e-6, 1e6, "largest norm of the whole gradient"),
		number(&c.Warmup, "warmup", 0.04, 0, 1, "share of the steps over which the learning rate rises"),
		whole(&c.Micros, "accumulate", 1, 1, 4096, "micro-batches whose gradients one step adds up"),
		yes(&c.Adaptive, "adaptive-batch", "accumulate more, from 2 up to 64, as the gradient noise scale grows; fewer steps then read the same data"),
		number(&c.EMA, "ema", 0, 0, 0.999999, "decay a step of a moving average of the weights, kept and evaluated beside them; 0 is none"),
		c.precision(),
		c.duty(),
		needed(&c.Out, "out", "out/train", "path", "folder of the checkpoint; training resumes from it when it holds one"),
		whole(&c.SaveEvery, "save-every", 200, 0, 1_000_000_000, "steps between checkpoints; 0 saves at the end only"),
		whole(&c.LogEvery, "log-every", 10, 1, 1_000_000_000, "steps between log lines"),
	}
}

func (c *Config) sampling() []option {
	return []option{
		text(&c.Prompt, "prompt", "", "text", "text to continue; without it, the model begins a new one"),
		whole(&c.Bytes, "bytes", 200, 1, 1_000_000, "bytes to generate"),
		number(&c.Temperature, "temperature", 0.8, 0, 100, "0 always takes the likeliest byte, 1 follows the model"),
		whole(&c.TopK, "top-k", 0, 0, 1<<20, "sample among the K likeliest; 0 is all"),
		number(&c.TopP, "top-p", 0.95, 0.01, 1, "sample among the likeliest that together hold this probability"),
	}
}

func (c *Config) preset(allowed ...string) option {
	o := choice(&c.Preset, "preset", "nano", "the model's shape", allowed...)
	o.allowed += ", or FILE.json like Hugging Face's config.json"
	named := o.set
	o.set = func(text string) error {
		if isShapeFile(text) {
			c.Preset = text
			return nil
		}
		return named(text)
	}
	return o
}

func isShapeFile(preset string) bool { return strings.HasSuffix(preset, ".json") }

// shape returns the model's shape, by name or from a file, for the windows that are asked for.
func (c *Config) shape() (shape model.Config, err error) {
	if isShapeFile(c.Preset) {
		shape, err = model.ReadShape(c.Preset)
	} else {
		shape, err = model.Preset(c.Preset)
		shape.Vocab = cmp.Or(c.vocabulary, shape.Vocab)
	}
	shape.Context = cmp.Or(c.Context, shape.Context)
	return c.narrowed(shape, err)
}

func (c *Config) duty() option {
	return number(&c.Duty, "duty", 1, 0.01, 1, "share of the time to train; the machine rests after each step for what is left")
}

func (c *Config) context() option {
	return whole(&c.Context, "context", 0, 0, 1<<20, "tokens in a training window; 0 takes the preset's")
}

func (c *Config) batch() option {
	return whole(&c.Batch, "batch", 8, 1, 4096, "training windows in one micro-batch, which is a step unless --accumulate says more")
}

func (c *Config) optimizer() option {
	return choice(&c.Optimizer, "optimizer", adamW, "what makes the steps", optimizerNames()...)
}

func (c *Config) average() option {
	return yes(&c.Average, "average", "use the moving average of the weights that train --ema kept")
}

// exporting lists how a model leaves.
func (c *Config) exporting() []option { return []option{c.number(), c.universal(), c.height()} }

func (c *Config) number() option {
	return choice(&c.Number, "dtype", "fp32", "how values are written", "fp32", "fp16", "bf16")
}

func (c *Config) universal() option {
	return yes(&c.Universal, "universal", "write a universal checkpoint: all that training goes on from, one blob for each parameter and kind")
}

func (c *Config) height() option {
	return whole(&c.At, "at", 0, 0, 1<<56, "ledger height of a run's model, for a data folder; 0 takes the newest")
}

// clash reports settings that are right one by one but not together.
func (c *Config) clash() error {
	if c.Weights != "" && c.Context > 0 {
		return fmt.Errorf("context %d and weights %s: weights come with their own context; leave out --context", c.Context, c.Weights)
	}
	if c.Schedule == string(optimizer.WSD) && c.Warmup+c.Cooldown > 1 {
		return fmt.Errorf("warmup %g and cooldown %g: together they are more than the whole training; allowed: at most 1", c.Warmup, c.Cooldown)
	}
	if c.Universal && (c.Average || c.Number != checkpoint.Float32.Word()) {
		return errors.New("universal with average or dtype: a universal checkpoint holds all weights as they are; allowed: neither")
	}
	if c.Loopback && c.Address != "" {
		return fmt.Errorf("loopback with address %s: nobody outside reaches a run on this machine only; allowed: one of the two", c.Address)
	}
	return status.Config{Listen: c.Listen, Token: c.PageToken}.Validate()
}

func (c *Config) precision() option {
	return choice(&c.Precision, "precision", string(compute.FP32),
		"format of what matrix products read; sums and all that is kept stay fp32. bf16 is faster where the CPU multiplies it, fp16 (GPUs only) and bf16 on tensor cores",
		append(compute.Precisions(), string(compute.FP16))...)
}

func (c *Config) seconds(fallback float64) option {
	return number(&c.Seconds, "seconds", fallback, 0.1, 3600, "seconds to measure for")
}

func (c *Config) profile() option {
	return yes(&c.Profile, "profile", "tell where the time of a step goes instead, operation by operation (CPUs only); with one thread by the processor's time, beside which other work does not count")
}

func (c *Config) windows(fallback int) option {
	return whole(&c.Windows, "eval-windows", fallback, 0, 1_000_000_000, "most held-out windows to measure the loss on; 0 is all")
}

func (c *Config) seed() option {
	return seed(&c.Seed, "seed", 1, "of everything random, so that a run can be repeated")
}

// settings fills a Config from flags, environment and file.
type settings struct {
	config Config
	file   string            // the YAML file, "" for none
	values map[string]string // of the command's options, as they were given
	chosen map[string]bool   // those that do not come from a default
}

// bind adds options to a command's flags.
func (s *settings) bind(flags *pflag.FlagSet, options ...option) {
	for _, o := range options {
		flag := flags.VarPF(&flagText{text: o.fallback, kind: o.kind}, o.key, "", o.help())
		if o.kind == "bool" {
			flag.NoOptDefVal = "true"
		}
		flag.Hidden = o.key == controlKey
		if flag.Annotations == nil && o.kind == "name" { // the shell completes words that are known
			flag.Annotations = map[string][]string{wordsOf: strings.Split(o.allowed, ", ")}
		}
	}
}

// wordsOf annotates a flag with what it may be.
const wordsOf = "dunlin_words"

// completions lets the shell complete the values of a command's flags.
func completions(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		words := f.Annotations[wordsOf]
		directive := cobra.ShellCompDirectiveNoFileComp
		switch f.Value.Type() {
		case "path":
			directive = cobra.ShellCompDirectiveDefault
		case "bool":
			words = []string{"true", "false"}
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { // fails only for a flag that is not there
			return words, directive
		})
	})
}

// load reads and checks the options that a command has beside the global ones. Its error lists all faults; each names
// the key, the value, where it came from and what is allowed.
func (s *settings) load(flags *pflag.FlagSet, options []option) error {
	v := viper.New()
	v.SetEnvPrefix("dunlin")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if err := v.BindPFlags(flags); err != nil {
		return err
	}
	if err := s.readFile(v); err != nil {
		return err
	}
	var faults []error
	s.values, s.chosen = make(map[string]string), make(map[string]bool)
	for _, o := range append(s.config.global(), options...) {
		value := v.GetString(o.key)
		s.values[o.key], s.chosen[o.key] = value, s.source(v, flags, o.key) != defaultSource
		if err := o.set(value); err != nil {
			faults = append(faults, fmt.Errorf("%s %q (from %s): %w; allowed: %s", o.key, shorten(value), s.source(v, flags, o.key), err, o.allowed))
		}
	}
	if len(faults) == 0 {
		faults = append(faults, s.config.clash())
	}
	return errors.Join(faults...)
}

// readFile reads the YAML file and refuses keys that no command knows.
func (s *settings) readFile(v *viper.Viper) error {
	if s.file == "" {
		return nil
	}
	v.SetConfigFile(s.file)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		return fmt.Errorf("config file %s: %w", s.file, err)
	}
	known := make(map[string]bool)
	for _, o := range everyOption(&Config{}) {
		known[o.key] = true
	}
	var faults []error
	for _, key := range v.AllKeys() {
		if v.InConfig(key) && !known[key] {
			faults = append(faults, fmt.Errorf("config file %s: %q is no setting; allowed: the long flags of the commands", s.file, key))
		}
	}
	return errors.Join(faults...)
}

// source says where viper took a value from, for people.
func (s *settings) source(v *viper.Viper, flags *pflag.FlagSet, key string) string {
	name := "DUNLIN_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
	switch {
	case flags.Changed(key):
		return "--" + key
	case os.Getenv(name) != "":
		return name
	case v.InConfig(key):
		return s.file
	}
	return defaultSource
}

// defaultSource is where a value comes from that nobody chose.
const defaultSource = "the default"

func shorten(text string) string { return shortenTo(text, 80) }

func shortenTo(text string, most int) string {
	if len(text) > most {
		return text[:most-3] + "…"
	}
	return text
}
