package session

import (
	"context"
	"errors"
	"testing"
)

// TestSupervisorMayHaveAllItsCallsBeDialogs, which take a window and a frame each.
func TestSupervisorMayHaveAllItsCallsBeDialogs(t *testing.T) {
	var m Mux
	HandleStream(&m, "hold", func(ctx context.Context, _ int, s ServerStream[int, int]) (int, error) {
		if err := s.Started(ctx, 0); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	h, _ := pair(t, sockets, Options{}, Options{Mux: &m})
	for n := range DefaultCalls {
		s, err := OpenStream[int, int](bounded(t), h, "hold", 0)
		if err == nil {
			err = s.Started(bounded(t), nil)
		}
		if err != nil {
			t.Fatalf("dialog %d: %v", n, err)
		}
	}
	s, err := OpenStream[int, int](bounded(t), h, "hold", 0)
	if err == nil {
		err = s.Started(bounded(t), nil)
	}
	if !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v; want ErrBusy", err)
	}
}
