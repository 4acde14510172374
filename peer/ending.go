package peer

import (
	"errors"
	"fmt"
	"time"

	"dunlin/checkpoint"
	"dunlin/folder"
	"dunlin/peer/judge"
	"dunlin/wire"
)

// ask has the present state measured; the coordinator asks at the start, at
// checkpoints and at the end. One state is under way at a time: each is weights
// that the run may have left behind.
func (p *Peer) ask(last bool) {
	switch {
	case p.judge == nil:
	case p.judging && last:
		p.judgeLast = true
	case p.judging:
		p.judgeDue = true
	default:
		p.judging = true
		p.judge.Orders.Put(judge.Order{Height: p.life.Height, Tokens: p.figures.Tokens, Tensors: p.replica.View().Tensors, Last: last})
	}
}

// askDue has the state of a checkpoint measured once it stands at the head, if the judge has worked little enough.
func (p *Peer) askDue() {
	if p.judgeDue && !p.judging && p.life.Height >= p.figures.CommitHeight && time.Now().After(p.judgeFrom) {
		p.judgeDue = false
		p.ask(false)
	}
}

// export writes the run's model as a checkpoint folder that `dunlin sample` and
// `dunlin eval` open.
func (p *Peer) export() error {
	if p.cfg.Export == "" {
		return nil
	}
	vocabulary, err := p.shards.Text(p.spec.Data.Vocabulary)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	c, err := folder.ModelAt(p.replica, p.life.Height, vocabulary)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	_, err = checkpoint.Save(p.cfg.Export, c, 1)
	return err
}

// checkEnd closes a run whose last commit is applied here: the model is
// exported and measured once.
func (p *Peer) checkEnd() {
	if p.settingsIn.Phase != wire.PhaseEnded || p.ended || p.life.Height < p.figures.CommitHeight {
		return
	}
	p.ended = true
	if err := p.export(); err != nil {
		p.failure = errors.Join(p.failure, err)
		return
	}
	p.ask(true)
}
