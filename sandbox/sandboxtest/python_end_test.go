package sandboxtest_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sandboxd/ipc/codec"
	"sandboxd/sandbox"
	"sandboxd/spawn/spawntest"
)

func TestPythonSpawnsFindsAndPassesOn(t *testing.T) {
	eachPython(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			s := c.spec("parent")
			s.Kinds, s.Finds = map[string]sandbox.Spec{"py": c.spec("py")}, true
			a := c.start(ctx, n, s)
			got, err := sandbox.Call[any, []codec.Raw](ctx, a, "spawn", []any{"py", "kid", "double", 21}) // and cancels it
			if err != nil {
				return err
			}
			var id, name, reason string
			var answer, code int
			var end []codec.Raw
			for i, v := range []any{&id, &name, &answer, &end} {
				if err := codec.Unmarshal(got[i], v); err != nil {
					return err
				}
			}
			if err := errors.Join(codec.Unmarshal(end[0], &reason), codec.Unmarshal(end[1], &code)); err != nil {
				return err
			}
			if id == "" || name != "kid" || answer != 42 || reason != "exited" || code != 0 {
				c.Errorf("child %q %q gave %d and ended: %s, %d", id, name, answer, reason, code)
			}
			_, err = sandbox.Call[any, codec.Raw](ctx, a, "spawn", []any{"worker", "", "double", 1})
			if remote, ok := errors.AsType[*sandbox.RemoteError](err); !ok || !errors.Is(err, sandbox.ErrDenied) || remote.Source.ID != "0" {
				c.Error(err)
			}
			_, err = sandbox.Call[any, codec.Raw](ctx, a, "spawn", []any{"py", "kid", "fail", "quota"})
			remote, ok := errors.AsType[*sandbox.RemoteError](err)
			if quota, known := errors.AsType[*pyQuota](err); !ok || !known || quota.Used != 5 || remote.Source.Name != "kid" || remote.Relay[len(remote.Relay)-1] != a.Ref() {
				c.Errorf("%+v", remote)
			}
			other := c.start(ctx, n, c.spec("other"))
			if v, err := sandbox.Call[any, int](ctx, a, "find", []any{"other", "double", 4}); v != 8 || err != nil {
				c.Error(v, err)
			}
			for _, verb := range []string{"count", "scount"} { // a dialog from us, through two programs
				if err := c.countWith(ctx, a, "through", []any{"other", verb, 7}, 500); err != nil {
					return err
				}
			}
			return errors.Join(a.Ping(ctx), other.Ping(ctx))
		}, sandbox.Grace(longGrace))
		for _, e := range c.events {
			if e.Kind == sandbox.Spawned && e.Actor.Name == "kid" && e.Parent.Name != "parent" {
				c.Errorf("the kid's parent is %v", e.Parent)
			}
		}
	})
}

// killPrograms kills whatever runs below this process and is no launcher or init.
func killPrograms() {
	for _, p := range spawntest.Descendants() {
		if p.Name != spawntest.Launcher && p.Name != spawntest.Init {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
}

func TestPythonDiesInACall(t *testing.T) {
	for _, d := range []struct {
		how    string
		arg    any
		reason sandbox.Reason
		code   int
		signal string
	}{
		{"crash", nil, sandbox.Signaled, 128 + 6, "SIGABRT"},
		{"exit", 3, sandbox.Exited, 3, ""},
		{"kill", nil, sandbox.Signaled, 128 + 9, "SIGKILL"},
	} {
		t.Run(d.how, func(t *testing.T) {
			eachPython(t, func(c *scope) {
				err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
					a := c.start(ctx, n, c.spec("py"))
					parked := make(chan error, 1)
					go func() {
						_, err := sandbox.Call[int, codec.Raw](c.ctx, a, "sleep", 3600)
						parked <- err
					}()
					if err := c.called(ctx, n, "sleep"); err != nil {
						return err
					}
					if d.how == "kill" {
						killPrograms()
					} else if _, err := sandbox.Call[any, codec.Raw](c.ctx, a, d.how, d.arg); !errors.Is(err, sandbox.ErrLost) {
						c.Error(err)
					}
					err := <-parked
					lost, ok := errors.AsType[*sandbox.ActorError](err)
					if !ok || !errors.Is(err, sandbox.ErrLost) || lost.Report == nil || lost.Actor != a.Ref() {
						c.Fatalf("%v; want it lost, with its report", err)
					}
					if e := lost.Report.Exit; e.Reason != d.reason || e.Code != d.code || e.Signal != d.signal {
						c.Errorf("it ended: %+v", e)
					}
					<-ctx.Done() // for the actor has failed
					return context.Cause(ctx)
				}, sandbox.Grace(longGrace))
				if failed, ok := errors.AsType[*sandbox.ActorError](err); !ok || failed.Report.Exit.Code != d.code {
					c.Errorf("the scope says %v", err)
				}
			})
		})
	}
}

func TestPythonEndsOfItsOwnAccord(t *testing.T) {
	eachPython(t, func(c *scope) {
		var noise atomic.Int64
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			s := c.spec("py")
			s.Stderr = counter{&noise}
			a, err := n.Go(ctx, s)
			if err != nil {
				return err
			}
			if said, err := sandbox.Call[any, string](ctx, a, "flood", nil); said != "flooded" || err != nil {
				c.Error(said, err)
			}
			if said, err := sandbox.Call[int, string](ctx, a, "stop", 0); said != "bye" || err != nil {
				c.Error(said, err)
			}
			report, err := a.Wait(ctx)
			if err != nil || report.Exit.Reason != sandbox.Exited || report.Exit.Code != 0 {
				c.Errorf("%+v, %v", report, err)
			}
			return nil
		}, sandbox.Grace(longGrace))
		if noise.Load() != 1<<20 {
			c.Errorf("%d bytes of stderr", noise.Load())
		}
	})
}

// One that will not hear is ended by SIGTERM, which Python obeys.
func TestPythonThatIsDeaf(t *testing.T) {
	eachPython(t, func(c *scope) {
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("py"))
			go func() { _, _ = sandbox.Call[int, codec.Raw](ctx, a, "deaf", 3600) }()
			return c.called(ctx, n, "deaf")
		}, sandbox.Grace(4*time.Second))
		if err != nil && !errors.Is(err, sandbox.ErrTooSlow) {
			c.Error(err)
		}
		if r := c.rungs("py"); len(r) == 0 || r[0] != sandbox.RungMessage {
			c.Errorf("rungs: %v", r)
		}
	})
}

// Every program that breaks the protocol is found out, and ended; what it was asked fails.
func TestPythonBreaksTheProtocol(t *testing.T) {
	eachPython(t, func(c *scope) {
		serveEcho(c)
		var names [][]string
		c.must(func(ctx context.Context, n *sandbox.Nursery) (err error) {
			names, err = sandbox.Once[any, [][]string](ctx, n, c.spec("py"), "violations", nil)
			return err
		})
		if len(names) != 2 || len(names[0]) < 20 || len(names[1]) < 5 {
			c.Fatalf("violations: %v", names)
		}
		if testing.Short() {
			names[0], names[1] = names[0][:2], names[1][:2]
		}
		for mode, names := range names {
			for _, name := range names {
				c.breaks(name, mode)
			}
		}
	})
}

func (c *scope) breaks(name string, mode int) {
	c.Helper()
	ctx, stop := context.WithTimeout(c.Context(), watchdog) // of its own: there are many
	defer stop()
	c.ctx = ctx
	want := sandbox.ErrProtocol
	if name == "cut" { // the end of stream within a frame
		want = sandbox.ErrLost
	}
	err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
		a := c.start(ctx, n, c.spec("py"))
		var err error
		if mode == 0 {
			_, err = sandbox.Call[any, codec.Raw](c.ctx, a, "violate:"+name, any(nil))
		} else {
			s, oerr := sandbox.OpenStream[int, codec.Raw](c.ctx, a, "violate:"+name, any(nil))
			if oerr != nil {
				return oerr
			}
			<-ctx.Done() // takes nothing: who reads gives credit
			err = s.Result(c.ctx, nil)
		}
		lost, ok := errors.AsType[*sandbox.ActorError](err)
		if !ok || !errors.Is(err, want) || lost.Report == nil || name != "cut" && lost.Report.Exit.Reason != sandbox.Lost {
			c.Errorf("%s: %v; want a report that says %s", name, err, sandbox.Lost)
		}
		<-ctx.Done() // for the actor has failed
		return context.Cause(ctx)
	}, sandbox.Grace(4*time.Second))
	failed, ok := errors.AsType[*sandbox.ActorError](err)
	if !ok || name != "cut" && !strings.Contains(failed.Report.Exit.Detail, "protocol") {
		c.Errorf("%s: the scope says %v", name, err)
	}
}
