package slabs

import (
	"context"
	"fmt"

	"dunlin/contribution"
	"dunlin/folder"
	"dunlin/peer/mailbox"
	"dunlin/store"
	"dunlin/wire"
)

// Orders to the codecs' goroutine.
type (
	// EncodeOrder has a snapshot encoded.
	EncodeOrder struct {
		Fragment int
		Base     uint64 // version that the snapshot was taken from
		Step     uint64 // inner steps of the slot by then
		Tracker  *contribution.Tracker
	}
	// SumOrder has a slab summed.
	SumOrder struct {
		Fragment uint64
		Attempt  wire.AttemptID
		Slab     uint64
		Base     uint64
		Ranks    []int // of the shares, which are in rank order
		Shares   []contribution.Share
	}
)

// SettleOrder tells the owner's error feedback of a commit.
type SettleOrder struct {
	Fragment, Base uint64
	Table          *wire.CommitTable
}

// Reports of the codecs' goroutine.
type (
	// EncodeDone answers EncodeOrder.
	EncodeDone struct {
		Order        EncodeOrder
		Contribution *contribution.Contribution
		Err          error
	}
	// SumDone answers SumOrder.
	SumDone struct {
		Order   SumOrder
		Sum     contribution.Sum
		Hash    wire.Hash // of the frame, which is durable
		Members uint64
		Err     error
	}
)

// Codecs encodes contributions and sums slabs beside the inner loop.
type Codecs struct {
	configs []contribution.Config
	owner   *contribution.Owner
	Orders  *mailbox.Mailbox[any]
	store   store.Store
	report  func(any)
}

// NewCodecs makes them for fragments laid out as configs say.
func NewCodecs(configs []contribution.Config, owner *contribution.Owner, s store.Store, report func(any)) *Codecs {
	return &Codecs{configs: configs, owner: owner, store: s, Orders: mailbox.New[any](), report: report}
}

// Run carries out orders until the context ends.
func (c *Codecs) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.Orders.Ready:
		}
		var sums []SumDone
		for _, order := range c.Orders.Take() {
			if ctx.Err() != nil {
				return
			}
			switch o := order.(type) {
			case EncodeOrder:
				made, err := o.Tracker.Encode()
				c.report(EncodeDone{Order: o, Contribution: made, Err: err})
			case SumOrder:
				sums = append(sums, c.sum(o))
			case SettleOrder:
				c.owner.Settle(o.Fragment, o.Base, o.Table)
			}
		}
		c.publish(sums)
	}
}

// publish makes a batch of results durable before anyone hears of them (R8).
func (c *Codecs) publish(sums []SumDone) {
	if len(sums) == 0 {
		return
	}
	err := c.store.Sync()
	for _, d := range sums {
		if d.Err == nil {
			d.Err = err
		}
		c.report(d)
	}
}

func (c *Codecs) sum(o SumOrder) SumDone {
	layout := c.configs[o.Fragment].Layout
	if int(o.Slab) >= layout.Slabs() {
		return SumDone{Order: o, Err: fmt.Errorf("slab %d of %d", o.Slab, layout.Slabs())}
	}
	from, to := layout.SlabValues(int(o.Slab))
	sum, err := c.owner.Sum(contribution.Work{Fragment: o.Fragment, Slab: o.Slab, Base: o.Base, Values: to - from}, o.Shares)
	done := SumDone{Order: o, Sum: sum, Err: err}
	if err == nil {
		c.store.Pin(folder.PinSummed(o.Attempt), store.HashLeaf(sum.Frame))
		done.Hash, done.Err = c.store.Put(sum.Frame)
	}
	for i, in := range sum.Included {
		if in {
			done.Members |= 1 << uint(o.Ranks[i])
		}
	}
	return done
}
