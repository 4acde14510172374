package peer

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
	encodeOrder struct {
		fragment int
		base     uint64 // version that the snapshot was taken from
		step     uint64 // inner steps of the slot by then
		tracker  *contribution.Tracker
	}
	sumOrder struct {
		fragment uint64
		attempt  wire.AttemptID
		slab     uint64
		base     uint64
		ranks    []int // of the shares, which are in rank order
		shares   []contribution.Share
	}
)

// settleOrder tells the owner's error feedback of a commit.
type settleOrder struct {
	fragment, base uint64
	table          *wire.CommitTable
}

// Reports of the codecs' goroutine.
type (
	encodeDone struct {
		order        encodeOrder
		contribution *contribution.Contribution
		err          error
	}
	sumDone struct {
		order   sumOrder
		sum     contribution.Sum
		hash    wire.Hash // of the frame, which is durable
		members uint64
		err     error
	}
)

// codecs encodes contributions and sums slabs beside the inner loop.
type codecs struct {
	configs []contribution.Config
	owner   *contribution.Owner
	orders  *mailbox.Mailbox[any]
	store   store.Store
	report  func(any)
}

func newCodecs(configs []contribution.Config, owner *contribution.Owner, s store.Store, report func(any)) *codecs {
	return &codecs{configs: configs, owner: owner, store: s, orders: mailbox.New[any](), report: report}
}

func (c *codecs) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.orders.Ready:
		}
		var sums []sumDone
		for _, order := range c.orders.Take() {
			if ctx.Err() != nil {
				return
			}
			switch o := order.(type) {
			case encodeOrder:
				made, err := o.tracker.Encode()
				c.report(encodeDone{order: o, contribution: made, err: err})
			case sumOrder:
				sums = append(sums, c.sum(o))
			case settleOrder:
				c.owner.Settle(o.fragment, o.base, o.table)
			}
		}
		c.publish(sums)
	}
}

// publish makes a batch of results durable before anyone hears of them (R8).
func (c *codecs) publish(sums []sumDone) {
	if len(sums) == 0 {
		return
	}
	err := c.store.Sync()
	for _, d := range sums {
		if d.err == nil {
			d.err = err
		}
		c.report(d)
	}
}

func (c *codecs) sum(o sumOrder) sumDone {
	layout := c.configs[o.fragment].Layout
	if int(o.slab) >= layout.Slabs() {
		return sumDone{order: o, err: fmt.Errorf("slab %d of %d", o.slab, layout.Slabs())}
	}
	from, to := layout.SlabValues(int(o.slab))
	sum, err := c.owner.Sum(contribution.Work{Fragment: o.fragment, Slab: o.slab, Base: o.base, Values: to - from}, o.shares)
	done := sumDone{order: o, sum: sum, err: err}
	if err == nil {
		c.store.Pin(folder.PinSummed(o.attempt), store.HashLeaf(sum.Frame))
		done.hash, done.err = c.store.Put(sum.Frame)
	}
	for i, in := range sum.Included {
		if in {
			done.members |= 1 << uint(o.ranks[i])
		}
	}
	return done
}
