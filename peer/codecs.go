package peer

import (
	"context"
	"fmt"

	"dunlin/compress"
	"dunlin/contribution"
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
		ranks    []int // of the shares, which are in rank order
		shares   []contribution.Share
	}
)

// Reports of the codecs' goroutine.
type (
	encodeDone struct {
		order        encodeOrder
		contribution *contribution.Contribution
		err          error
	}
	sumDone struct {
		order   sumOrder
		hash    wire.Hash // of the frame, which is durable
		length  int
		members uint64
		faults  []error
		err     error
	}
)

// codecs encodes contributions and sums slabs beside the inner loop.
type codecs struct {
	configs []contribution.Config
	result  compress.Codec
	orders  *mailbox[any]
	store   store.Store
	report  func(any)
}

func newCodecs(configs []contribution.Config, result compress.Codec, s store.Store, report func(any)) *codecs {
	return &codecs{configs: configs, result: result, store: s, orders: newMailbox[any](), report: report}
}

func (c *codecs) run(ctx context.Context) {
	summer := contribution.NewSummer(c.configs[0].Codec, c.result)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.orders.ready:
		}
		var sums []sumDone
		for _, order := range c.orders.take() {
			if ctx.Err() != nil {
				return
			}
			switch o := order.(type) {
			case encodeOrder:
				made, err := o.tracker.Encode()
				c.report(encodeDone{order: o, contribution: made, err: err})
			case sumOrder:
				sums = append(sums, c.sum(summer, o))
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

func (c *codecs) sum(summer *contribution.Summer, o sumOrder) sumDone {
	layout := c.configs[o.fragment].Layout
	if int(o.slab) >= layout.Slabs() {
		return sumDone{order: o, err: fmt.Errorf("slab %d of %d", o.slab, layout.Slabs())}
	}
	from, to := layout.SlabValues(int(o.slab))
	sum, err := summer.Sum(to-from, o.shares)
	done := sumDone{order: o, length: len(sum.Frame), faults: sum.Faults, err: err}
	if err == nil {
		c.store.Pin(pinSummed(o.attempt), store.HashLeaf(sum.Frame))
		done.hash, done.err = c.store.Put(sum.Frame)
	}
	for i, in := range sum.Included {
		if in {
			done.members |= 1 << uint(o.ranks[i])
		}
	}
	return done
}
