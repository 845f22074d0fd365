package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sandboxd/ipc/session"
)

const (
	// bootTimeout is how long a program may take from its start to its hello, unless its Spec says otherwise.
	bootTimeout = 10 * time.Second
	// helloTimeout is how long a connection may say nothing.
	helloTimeout = 10 * time.Second
	// atTheDoor is how many connections of one actor may wait for an answer at once.
	atTheDoor = 8
)

// meet waits until the program of l has said hello. The wait has four exits:
// it has, it died, the time is up, the caller gave up.
func (a *Actor) meet(ctx context.Context, l *life) error {
	limit := a.spec.BootTimeout
	if limit <= 0 {
		limit = bootTimeout
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	met := make(chan error, 1)
	go a.door(l, met)
	select {
	case err := <-met:
		return err
	case <-l.run.Gone():
		select {
		case err := <-met: // it said hello, and then it died: that is another story
			return err
		default:
			return errors.New("it ended before it said what it serves")
		}
	case <-t.C:
		return fmt.Errorf("it did not say what it serves within %v; is it a program that speaks the protocol? see Spec.BootTimeout", limit)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// door answers every connection of a life, as long as it lasts: the first one
// is the actor's, probes are told what they want to know, others are refused.
// met hears of the first hello, or of what nobody can say hello after.
func (a *Actor) door(l *life, met chan<- error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	waiting := make(chan struct{}, atTheDoor)
	for {
		conn, err := l.run.Accept(ctx)
		if errors.Is(err, os.ErrProcessDone) {
			return // meet sees that as well
		}
		if err != nil {
			tell(met, err)
			return
		}
		select {
		case waiting <- struct{}{}:
			go func() {
				a.greet(ctx, l, conn, met)
				<-waiting
			}()
		default:
			conn.Close()
		}
	}
}

// greet handles one connection. One that ends, or says nothing, before its hello
// is nobody's: another may come. One that says something else is a program that
// does not speak the protocol.
func (a *Actor) greet(ctx context.Context, l *life, conn io.ReadWriteCloser, met chan<- error) {
	ctx, stop := context.WithTimeout(ctx, helloTimeout)
	defer stop()
	if a.n.transport != nil {
		conn = a.n.transport(conn)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })() // whatever it does, this comes to an end
	arrival, err := session.Receive(ctx, conn)
	if err != nil {
		if errors.Is(err, session.ErrProtocol) && !a.claimed(l) {
			tell(met, err)
		}
		return
	}
	if !arrival.Probe && !a.claim(l) {
		arrival.Refuse(fmt.Errorf("%w: this actor is connected already", session.ErrBusy))
		return
	}
	w := session.Welcome{Self: l.ref, Epoch: l.epoch, Limits: l.run.Holds()}
	if d := a.spec.Limits.Timeout; d > 0 {
		w.Left = max(time.Until(l.since.Add(d)), time.Millisecond)
	}
	s, err := arrival.Welcome(ctx, w, session.Options{
		Self: supervisor, Mux: a.verbs(l), Headers: a.n.carried, Grace: a.n.grace / 2,
		Context: func(ctx context.Context, c *session.Inbound) context.Context {
			return context.WithValue(ctx, callerKey{}, caller{a, c.Headers()})
		},
		Observe: func(c session.CallInfo) {
			a.n.tell(Event{Kind: Called, Actor: l.ref, Epoch: l.epoch, Call: &c, Err: c.Err})
		},
	})
	if arrival.Probe {
		return
	}
	a.mu.Lock()
	l.s, l.claimed = s, err == nil
	late := l.buried
	a.mu.Unlock()
	if err == nil {
		if late {
			s.Close()
		}
		tell(met, nil)
	}
}

// claim makes a connection the actor's, unless there is one.
func (a *Actor) claim(l *life) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	free := !l.claimed
	l.claimed = true
	return free
}

func (a *Actor) claimed(l *life) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return l.claimed
}

// tell says the first thing that there is to say.
func tell(met chan<- error, err error) {
	select {
	case met <- err:
	default:
	}
}

type callerKey struct{}

type caller struct {
	a       *Actor
	headers map[string]string
}

// Caller is the actor whose call of one of our verbs is being served; nil
// outside of one. It may have ended.
func Caller(ctx context.Context) *Actor {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.a
}

// CallHeaders are what came with the call of one of our verbs that is being
// served, such as a trace; nil outside of one. They are what a program says.
func CallHeaders(ctx context.Context) map[string]string {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.headers
}

// carried is what a call takes along: what the nursery's Headers say, or else
// what came with the call for which it is made.
func (n *Nursery) carried(ctx context.Context) map[string]string {
	if n.headers != nil {
		if h := n.headers(ctx); h != nil {
			return h
		}
	}
	return CallHeaders(ctx)
}
