package session

import "context"

// await waits until ready says true, the call has ended, or ctx has; it returns
// with Session.mu held, whatever the error.
func (c *call) await(ctx context.Context, ready func() bool) error {
	c.s.mu.Lock()
	for !ready() && !c.ended && (c.mine || c.ctx.Err() == nil) {
		signal := c.waitLocked()
		c.s.mu.Unlock()
		err := c.sleep(ctx, signal)
		c.s.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// sleep waits for signal, for the end of the call or of what serves it, or for ctx, which is an error.
func (c *call) sleep(ctx context.Context, signal <-chan struct{}) error {
	var over <-chan struct{}
	if !c.mine {
		over = c.ctx.Done()
	}
	select {
	case <-signal:
	case <-over:
	case <-c.final:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// lockBoth is await with room for a frame as well.
func (c *call) lockBoth(ctx context.Context, ready func() bool) error {
	for {
		if err := c.await(ctx, ready); err != nil {
			return err
		}
		room, err := c.s.w.full()
		if err != nil || room == nil || c.whyLocked() != nil {
			return err
		}
		c.s.mu.Unlock()
		if err := c.sleep(ctx, room); err != nil {
			c.s.mu.Lock()
			return err
		}
	}
}

// whyLocked is why a stream cannot go on.
func (c *call) whyLocked() error {
	switch {
	case c.err != nil:
		return c.err
	case c.ended:
		return ErrEnded
	case !c.mine && c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	}
	return nil
}
