package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"dunlin/coordinator"
	"dunlin/folder"
	"dunlin/invite"
	"dunlin/peer/reign"
	"dunlin/status"
	"dunlin/wire"
)

// Orders of the organiser's desk.
const (
	verbSet    = "set"
	verbPause  = "pause"
	verbResume = "resume"
	verbEnd    = "end"
	verbBan    = "ban"
	verbInvite = "invite"
	verbFreeze = "freeze" // dunlin backup's
)

// longestReason of a ban leaves room for what is said before it.
const longestReason = wire.MaxReason - 40

// settable lists what `dunlin coordinator set` changes and how each value reads.
func settable() map[string]func(*coordinator.Change, string) error {
	deadline := func(of func(*wire.DeadlineSpec) *uint64) func(*coordinator.Change, string) error {
		return func(c *coordinator.Change, text string) error {
			d, err := time.ParseDuration(text)
			if err != nil || d < 10*time.Millisecond || d > time.Hour {
				return errors.New("want a time like 5s, 10ms to 1h")
			}
			*of(&c.Deadlines) = uint64(d.Milliseconds())
			return nil
		}
	}
	count := func(to func(*coordinator.Change) *uint64, most uint64) func(*coordinator.Change, string) error {
		return func(c *coordinator.Change, text string) error {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil || n < 1 || n > most {
				return fmt.Errorf("want a whole number, 1 to %d", most)
			}
			*to(c) = n
			return nil
		}
	}
	return map[string]func(*coordinator.Change, string) error{
		"h":       count(func(c *coordinator.Change) *uint64 { return &c.H }, wire.MaxH),
		"workers": count(func(c *coordinator.Change) *uint64 { return &c.Workers }, wire.MaxWorkers),
		"outer-lr": func(c *coordinator.Change, text string) error {
			lr, err := strconv.ParseFloat(text, 32)
			if err != nil || !(lr > 0 && lr <= 2) {
				return errors.New("want a number above 0, at most 2")
			}
			c.OuterLR = wire.FloatOf(float32(lr))
			return nil
		},
		"ready":   deadline(func(d *wire.DeadlineSpec) *uint64 { return &d.ReadyMin }),
		"stall":   deadline(func(d *wire.DeadlineSpec) *uint64 { return &d.Stall }),
		"attempt": deadline(func(d *wire.DeadlineSpec) *uint64 { return &d.Attempt }),
		"leave":   deadline(func(d *wire.DeadlineSpec) *uint64 { return &d.Leave }),
		"silence": deadline(func(d *wire.DeadlineSpec) *uint64 { return &d.Silence }),
	}
}

// parseChange reads KEY=VALUE pairs, each key once.
func parseChange(pairs []string) (coordinator.Change, error) {
	c := coordinator.Change{Reason: "the organiser set " + shortenTo(strings.Join(pairs, ", "), 160)}
	var faults []error
	seen := map[string]bool{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		set, known := settable()[key]
		switch {
		case !known:
			faults = append(faults, fmt.Errorf("%q does not change while a run goes on; allowed: %s", shorten(key), strings.Join(slices.Sorted(maps.Keys(settable())), ", ")))
		case seen[key]:
			faults = append(faults, fmt.Errorf("%s is given twice", key))
		default:
			if err := set(&c, value); err != nil {
				faults = append(faults, fmt.Errorf("%s %q: %w", key, shorten(value), err))
			}
		}
		seen[key] = true
	}
	return c, errors.Join(faults...)
}

func newDesk(t *terminal) []*cobra.Command {
	c := &t.settings.config
	dir := func() option {
		return text(&c.DataDir, "data-dir", "", "path", "the coordinator's data folder; without it, the one that dunlin coordinator takes")
	}
	give := func(verb string) func(context.Context, *Config, []string) error {
		return func(ctx context.Context, c *Config, args []string) error { return t.order(ctx, c, verb, args) }
	}
	pairs := func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%s: KEY=VALUE is missing; usage: %s", cmd.CommandPath(), cmd.UseLine())
		}
		_, err := parseChange(args)
		return err
	}
	banned := func(cmd *cobra.Command, args []string) error {
		if len(args) != 2 || strings.TrimSpace(args[1]) == "" || len(args[1]) > longestReason {
			return fmt.Errorf("%s: want a peer and, in quotes, a reason of at most %d bytes; usage: %s", cmd.CommandPath(), longestReason, cmd.UseLine())
		}
		return nil
	}
	verbs := func(cmd *cobra.Command, args []string) error {
		switch wants := map[string]int{"": 0, "add": 1, "revoke": 1, "public": 0, "list": 0}; {
		case len(args) == 0:
			return nil
		default:
			if n, known := wants[args[0]]; !known || len(args) != n+1 {
				return fmt.Errorf("%s: %q: want nothing, list, add NAME, revoke NAME or public; usage: %s", cmd.CommandPath(), shorten(strings.Join(args, " ")), cmd.UseLine())
			}
			return nil
		}
	}
	return []*cobra.Command{
		t.command("set KEY=VALUE…", "change a running run: "+strings.Join(slices.Sorted(maps.Keys(settable())), ", "),
			"  dunlin coordinator set h=50 outer-lr=0.4\n  dunlin coordinator set workers=20 stall=5s --data-dir out/demo/coordinator", pairs, give(verbSet), dir()),
		t.command("pause", "let every worker of the run rest", "  dunlin coordinator pause", exactly(), give(verbPause), dir()),
		t.command("resume", "let them train again", "  dunlin coordinator resume", exactly(), give(verbResume), dir()),
		t.command("end", "end the run for good, with what is committed", "  dunlin coordinator end", exactly(), give(verbEnd), dir()),
		t.command("ban PEER REASON", "drop a peer from the run for good, and tell it and all others why",
			"  dunlin coordinator ban 3jq7 \"its contributions are noise\"   # an id as the page shows it, or its first characters", banned, give(verbBan), dir()),
		t.command("invite [list | add NAME | revoke NAME | public]", "show the invite as text, link and QR code; make and revoke invites",
			"  dunlin coordinator invite\n  dunlin coordinator invite add club      # from now on only invites with a secret admit\n  dunlin coordinator invite revoke club   # who is in stays; nobody new gets in with it\n  dunlin coordinator invite public        # anybody may join again",
			verbs, give(verbInvite), dir()),
	}
}

// order has this machine's coordinator do something and prints what it says.
func (t *terminal) order(ctx context.Context, c *Config, verb string, args []string) error {
	dir := c.DataDir
	if dir == "" {
		dir = filepath.Join(dataHome(), "coordinator")
	}
	text, err := giveOrder(ctx, folder.Folder{Dir: dir}, order{Verb: verb, Args: args})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(t.out, text); err != nil {
		return err
	}
	if verb == verbInvite && len(args) == 0 {
		if f, ok := t.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			token, _, _ := strings.Cut(strings.TrimPrefix(text, "invite  "), "\n")
			fmt.Fprint(t.out, "\n", status.QR(token))
		}
	}
	return nil
}

// desk is what a coordinator needs to carry out its organiser's orders.
type desk struct {
	folder  folder.Folder
	run     wire.Hash
	spec    *wire.RunSpec
	tell    func(reign.Organise)
	inForce func() *wire.Settings // nil before the first
	ledger  func(io.Writer) error // writes a copy of it
	token   invite.Token          // but for its secret; its addresses change
	page    string
	workers func() []string // ids, of those in the run
	invites folder.Invites
	// secretive: others may read the page, so that it shows no invite that admits to a private run.
	secretive bool
	shown     atomic.Pointer[string] // the invite that the page shows
	shownIn   *wire.Settings         // in force then
	discreet  atomic.Bool            // the page leaves out the run id, which opens the run to whoever knows it
	others    func() []wire.Known    // the run's other coordinators whose addresses are known
	mu        sync.Mutex             // guards token, invites and shownIn
}

// obey carries out an order.
func (d *desk) obey(ctx context.Context, o order) answer {
	text, err := d.do(ctx, o)
	if err != nil {
		return answer{Text: text, Error: err.Error()}
	}
	return answer{Text: text}
}

func (d *desk) do(ctx context.Context, o order) (string, error) {
	change := coordinator.Change{}
	said := ""
	switch o.Verb {
	case verbSet:
		var err error
		if change, err = parseChange(o.Args); err != nil {
			return "", err
		}
		said = "set; versions of the model that nobody works on yet are the first to follow"
	case verbPause:
		change.Phase, change.Reason, said = wire.PhasePaused, "the organiser paused it", "paused; dunlin coordinator resume lets workers train again"
	case verbResume:
		change.Phase, change.Reason, said = wire.PhaseTraining, "the organiser resumed it", "training"
	case verbEnd:
		change.Phase, change.Reason, said = wire.PhaseEnded, "the organiser ended it", "ended; workers hand over and leave"
	case verbBan:
		if len(o.Args) != 2 {
			return "", errors.New("ban: want a peer and a reason")
		}
		peer, err := d.peer(o.Args[0])
		if err != nil {
			return "", err
		}
		change.Ban, change.Reason, said = peer, o.Args[1], "banned "+peer.String()+"; what it contributed stays in the model"
	case verbInvite:
		return d.invite(ctx, o.Args)
	case verbFreeze:
		frozen, err := d.folder.Freeze(d.run, d.ledger)
		return frozen.Dir, err
	default:
		return "", fmt.Errorf("order %q is unknown to this release", shorten(o.Verb))
	}
	return said, d.change(ctx, change)
}

// peer finds a worker by its id or the beginning of that.
func (d *desk) peer(text string) (wire.PeerID, error) {
	var found []string
	for _, p := range d.workers() {
		if text != "" && strings.HasPrefix(p, text) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return wire.PeerID{}, fmt.Errorf("no worker of this run has an id that begins with %q: dunlin status and the page show them", shorten(text))
	case 1:
		return wire.ParsePeerID(found[0])
	}
	return wire.PeerID{}, fmt.Errorf("%q is how the ids of %d workers begin: give more of it: %s", shorten(text), len(found), strings.Join(found[:min(len(found), 4)], ", "))
}

var errNotYet = errors.New("the ledger does not say so yet: the coordinator goes on trying; see its log")

// change waits until the ledger says so.
func (d *desk) change(ctx context.Context, c coordinator.Change) error {
	done := make(chan error, 1)
	d.tell(reign.Organise{Change: c, Answer: done})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errNotYet
	}
}

func (d *desk) invite(ctx context.Context, args []string) (string, error) {
	next := d.invites.Clone()
	next.Public = d.public() // another coordinator may have said so
	var err error
	switch {
	case len(args) == 0:
		return d.hold(), nil
	case args[0] == "list":
		return d.list(), nil
	case args[0] == "public":
		next.Public = true
	case args[0] == "add" && len(args) == 2:
		err = next.Add(args[1])
	case args[0] == "revoke" && len(args) == 2:
		err = next.Revoke(args[1])
	default:
		err = fmt.Errorf("invite %q: unknown", shorten(strings.Join(args, " ")))
	}
	if err != nil {
		return "", err
	}
	// The secret is durable before the ledger says that it admits.
	if err := d.folder.SaveInvites(d.run, next); err != nil {
		return "", err
	}
	before := d.replace(next)
	var in *wire.Access
	if s := d.inForce(); s != nil {
		in = s.Access
	}
	err = d.change(ctx, coordinator.Change{Access: next.Access(in), Reason: "invite " + shortenTo(strings.Join(args, " "), 100)})
	if errors.Is(err, errNotYet) {
		return "", err // it will
	}
	if err != nil {
		d.replace(before)
		return "", errors.Join(err, d.folder.SaveInvites(d.run, before))
	}
	d.show()
	return d.list() + "\n" + d.hold(), nil
}

// replace changes the invites and returns those before.
func (d *desk) replace(next folder.Invites) (before folder.Invites) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, d.invites = d.invites, next
	return before
}

// admits reports whether the ledger lets those in who have a secret.
func (d *desk) admits(secret []byte) bool { return d.inForce().Admits(d.spec, secret) }

// public reports whether anybody may join.
func (d *desk) public() bool { return d.admits(nil) }

// current is the invite to hand out, or "" when none holds.
func (d *desk) current() string {
	d.mu.Lock()
	t := d.token
	d.mu.Unlock()
	t.Others = d.others()
	if d.public() {
		return t.String()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.Secret = d.invites.Newest(d.admits); t.Secret == nil {
		return ""
	}
	return t.String()
}

// show puts the invite on the page.
func (d *desk) show() {
	in, text := d.inForce(), d.current()
	discreet := d.secretive && !d.public()
	if discreet {
		text = ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shownIn = in
	d.discreet.Store(discreet)
	d.shown.Store(&text)
}

// moved takes in where this machine is reached now (a router has opened a port, others told what they see) and reports
// whether invites change by it.
func (d *desk) moved(addrs []string) bool {
	addrs = first(bare(addrs), invite.MaxAddrs)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(addrs) == 0 || slices.Equal(addrs, d.token.Addrs) {
		return false
	}
	d.token.Addrs = addrs
	return true
}

// refresh puts it there again if it may have changed.
func (d *desk) refresh(news bool) {
	d.mu.Lock()
	news = news || d.shownIn != d.inForce()
	d.mu.Unlock()
	if news {
		d.show()
	}
}

// hold says the invite as text and as a link.
func (d *desk) hold() string {
	text := d.current()
	if text == "" {
		return "no invite holds: nobody new can join; dunlin coordinator invite add NAME makes one"
	}
	return "invite  " + text + "\nlink    " + d.page + "#" + text
}

func (d *desk) list() string {
	var lines []string
	public := d.public()
	for _, i := range d.invites.List {
		state := "holds"
		switch {
		case i.Revoked:
			state = "revoked"
		case public:
			state = "not needed, anybody may join"
		case len(i.Secret) == 0:
			state = "held while anybody could join"
		case !d.admits(i.Secret):
			state = "does not hold: another coordinator revoked it"
		}
		lines = append(lines, fmt.Sprintf("%-16s %s", i.Name, state))
	}
	if len(lines) == 0 {
		return "no invites"
	}
	return strings.Join(lines, "\n")
}
