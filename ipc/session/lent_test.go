package session

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestLentIsWholeWhileItsFunctionRuns has many functions hold what was lent to
// them at once, while the memory of those before is used again.
func TestLentIsWholeWhileItsFunctionRuns(t *testing.T) {
	var program Mux
	Handle(&program, "echo", func(ctx context.Context, b Lent) (Lent, error) {
		before := bytes.Clone(b)
		if err := sessionOf(ctx).Ping(ctx); err != nil { // others' frames are read meanwhile
			return nil, err
		}
		if !bytes.Equal(before, b) {
			return nil, errors.New("it changed")
		}
		if len(b)%5 == 0 {
			return nil, errOdd // gives it back as well
		}
		return b, nil
	})
	h, _ := pair(t, sockets, Options{}, Options{Mux: &program, Context: knowsSession})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			var back []byte
			for range 40 {
				b := bytes.Repeat([]byte{byte(rand.IntN(256))}, worth+rand.IntN(3*worth))
				err := CallInto(t.Context(), h, "echo", b, &back)
				switch {
				case len(b)%5 == 0:
					if err == nil {
						t.Error("no error came back")
					}
				case err != nil:
					t.Error(err)
				case !bytes.Equal(b, back):
					t.Errorf("%d bytes of %d became %d of %d", len(b), b[0], len(back), back[0])
				}
			}
		})
	}
	all.Wait()
}

type sessionKey struct{}

// knowsSession is an Options.Context, after which sessionOf is the session that a call came over.
func knowsSession(ctx context.Context, c *Inbound) context.Context {
	return context.WithValue(ctx, sessionKey{}, c.Session())
}

func sessionOf(ctx context.Context) *Session { return ctx.Value(sessionKey{}).(*Session) }

var errOdd = errors.New("odd")

// TestLentAnswerIsTheCallers keeps answers while others arrive.
func TestLentAnswerIsTheCallers(t *testing.T) {
	var program Mux
	Handle(&program, "fill", func(_ context.Context, n byte) ([]byte, error) { return bytes.Repeat([]byte{n}, 2*worth), nil })
	h, _ := pair(t, sockets, Options{}, Options{Mux: &program})
	var kept []Lent
	for n := range 50 {
		b, err := Call[byte, Lent](t.Context(), h, "fill", byte(n))
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, b)
	}
	for n, b := range kept {
		if !bytes.Equal(b, bytes.Repeat([]byte{byte(n)}, 2*worth)) {
			t.Errorf("answer %d was overwritten", n)
		}
	}
}
