package session

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sandboxd/ipc/wire"
)

// way is one direction of a dialog, as the protocol says that it behaves.
type way struct {
	window, credit, eaten int64
	sent                  [][]byte // and not received yet
	stopped               bool
}

// driveStreams lets both ends of a dialog do what ops say, and compares each
// step with the model: a Send blocks exactly when its credit is used up, items
// arrive in order, and never more lies in between than the window and one item.
func driveStreams(t *testing.T, ops []byte) {
	synctest.Test(t, func(t *testing.T) {
		if len(ops) < 2 {
			return
		}
		served := make(chan *Stream)
		var program Mux
		program.Add("d", Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) {
			if err := c.Stream().Start(ctx, nil); err != nil {
				return nil, err
			}
			served <- c.Stream()
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ways := [2]way{{window: 64 + 16*int64(ops[0])}, {window: 64 + 16*int64(ops[1])}} // program → host, host → program
		h, _ := pair(t, pipes, Options{Window: int(ways[0].window)}, Options{Mux: &program, Window: int(ways[1].window)})
		s, err := h.Open(t.Context(), "d", nil)
		if err != nil {
			t.Fatal(err)
		}
		ends := [2]*Stream{<-served, s} // by whom sends the way
		for i := range ways {
			ways[i].credit = ways[i].window
		}
		for step, op := range ops[2:] {
			synctest.Wait() // credit has arrived
			w, from, to := &ways[op&1], ends[op&1], ends[1-op&1]
			ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
			switch size := int64(op>>3) * 24; {
			case op&6 == 6 && size > 29*24: // rarely
				if err := from.CloseSend(); err != nil {
					t.Fatal(step, err)
				}
				w.stopped = true
			case op&6 == 0 || op&6 == 2:
				item, err := to.Recv(ctx)
				switch {
				case len(w.sent) > 0:
					if err != nil || string(item) != string(w.sent[0]) {
						t.Fatal(step, len(item), len(w.sent[0]), err)
					}
					if w.eaten += cost(item); w.eaten >= w.window/4 && !w.stopped {
						w.credit, w.eaten = w.credit+w.eaten, 0
					}
					w.sent = w.sent[1:]
				case w.stopped && err != io.EOF, !w.stopped && !errors.Is(err, context.DeadlineExceeded):
					t.Fatal(step, err)
				}
			default:
				item := wire.AppendBytes(nil, make([]byte, size))
				err := from.Send(ctx, item)
				switch {
				case w.stopped && !errors.Is(err, ErrEnded),
					!w.stopped && w.credit > 0 && err != nil,
					!w.stopped && w.credit <= 0 && !errors.Is(err, context.DeadlineExceeded):
					t.Fatal(step, w.credit, err)
				case err == nil:
					w.credit -= cost(item)
					w.sent = append(w.sent, item)
				}
			}
			stop()
			held := int64(0)
			for _, item := range w.sent {
				held += cost(item)
			}
			if most := w.window + 64 + 31*24; held > most {
				t.Fatalf("step %d: %d bytes are on their way, with a window of %d", step, held, w.window)
			}
		}
		if err := s.Cancel(nil); err != nil {
			t.Error(err)
		}
	})
}

func TestStreamsBehaveAsTheModel(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		ops := make([]byte, 300)
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		if seed%2 == 0 { // small windows
			ops[0], ops[1] = ops[0]%8, ops[1]%8
		}
		driveStreams(t, ops)
	}
}
