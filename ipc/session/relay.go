package session

import (
	"context"
	"errors"
	"io"
)

// Relay passes a dialog that is being served at from on to one that was opened
// at to, and returns its result. Each direction waits for its reader, so that
// windows hold through the relay; a cancel at one end cancels the other.
func Relay(ctx context.Context, from, to *Stream) ([]byte, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	first, err := to.Started(ctx)
	if err == nil {
		if err = from.Start(ctx, first); err != nil {
			_ = to.Cancel(err)
			return nil, err
		}
	}
	down := make(chan struct{})
	go func() { // what the opener sends
		defer close(down)
		if err := copyItems(ctx, to, from); err == nil {
			_ = to.CloseSend()
		} else if !over(to) {
			stop(err)
		}
	}()
	if err := copyItems(ctx, from, to); err == nil {
		_ = from.CloseSend()
	} else if !over(to) {
		stop(err) // an item is lost: there must be no result as if it were not
	}
	result, err := to.Result(ctx)
	stop(io.EOF)
	<-down
	return result, err
}

// over tells whether a dialog has ended, so that its result says why it takes no more.
func over(s *Stream) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// copyItems passes items on until there are no more.
func copyItems(ctx context.Context, to, from *Stream) error {
	for {
		item, err := from.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := to.Send(ctx, item); err != nil {
			return err
		}
	}
}
