package sandboxtest_test

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sandboxd/sandbox"
)

func TestDumpOfATreeThatHangs(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, tree(c, 1))
			if _, err := sandbox.Call[growth, int](ctx, a, "grow", growth{Depth: 1, Breadth: 1, Leaf: "stuck"}); err != nil {
				return err
			}
			c.until("root.0")
			go func() { _, _ = n.Start(ctx, c.spec("mute")) }()
			for ctx.Err() == nil && len(n.Actors()) < 2 {
				if err := a.Ping(ctx); err != nil {
					return err
				}
			}
			var out bytes.Buffer
			if err := n.Dump(&out); err != nil {
				return err
			}
			want := []string{
				`(?m)^nursery: open, 2 actors, 0 failures$`, `(?m)^  "root" \(.+\): ready, epoch 1, for `,
				`(?m)^    "root\.0" \(.+\): ready`, `(?m)^      call of it: "stuck", for `, `(?m)^    call by it: "sandboxd.call", for `,
				`(?m)^  "mute".*: (waited for|being started)`, `goroutines of the supervisor:\ngoroutine `,
			}
			if c.name != "memory" {
				want = append(want, `(?m)^    process \d+: ".+", state [RSD]`)
			}
			for _, w := range want {
				if !regexp.MustCompile(w).Match(out.Bytes()) {
					c.Errorf("no %s in\n%s", w, out.String())
				}
			}
			if err := n.Dump(broken{}); !errors.Is(err, errFull) {
				c.Error(err)
			}
			n.Cancel("seen enough")
			return nil
		}, sandbox.Grace(shortGrace*20))
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errFull }

// told hands on what is written.
type told chan string

func (w told) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func TestDumpOnSignal(t *testing.T) {
	c := newScope(t, memory)
	out := make(told, 1)
	stop := sandbox.DumpOn(syscall.SIGUSR1, out)
	defer stop()
	c.must(func(ctx context.Context, n *sandbox.Nursery) error {
		c.start(ctx, n, c.spec("worker"))
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGUSR1); err != nil {
			return err
		}
		if s := <-out; !strings.Contains(s, `"worker"`) {
			c.Error(s)
		}
		return nil
	})
	stop()
	stop()
}
