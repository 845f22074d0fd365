package sandboxtest_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc/codec"
	"sandboxd/sandbox"
	"sandboxd/spawn/spawntest"
)

// cpu is the time that this process and those of all have spent computing.
func cpu(t *testing.T, all []spawntest.Proc) time.Duration {
	t.Helper()
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		t.Fatal(err)
	}
	spent := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	for _, p := range all {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
		if err != nil {
			continue // of a test before this one, and gone now
		}
		_, after, _ := strings.Cut(string(b), ") ")
		for _, f := range strings.Fields(after)[11:13] { // utime and stime, in ticks of 10 ms
			ticks, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			spent += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return spent
}

// idles proves that for a second next to nothing is computed. What begins may
// take its time first; what spins never stops.
func (c *scope) idles(ctx context.Context) {
	c.Helper()
	const most = 300 * time.Millisecond
	all := spawntest.Descendants()
	var spent time.Duration
	for range 10 {
		before := cpu(c.T, all)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			c.Fatal(context.Cause(ctx))
		}
		if spent = cpu(c.T, all) - before; spent < most {
			c.Logf("%v of CPU time in a second", spent)
			return
		}
	}
	c.Errorf("%v of CPU time in a second of idleness, at most %v are wanted", spent, most)
}

// A tree in which calls and streams wait costs no CPU time.
func TestIdleTreeComputesNothing(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, tree(c, 2))
			if _, err := sandbox.Call[growth, int](ctx, a, "grow", growth{Depth: 2, Breadth: 2}); err != nil {
				return err
			}
			go func() { _, _ = sandbox.Call[string, int](ctx, a, "sleep", "x") }()
			c.until("x")
			s, err := sandbox.OpenStream[int, int](ctx, a, "produce", 0) // waits for a reader
			if err != nil {
				return err
			}
			defer s.Close()
			go func() { _, _ = n.Await(ctx, "nobody") }()
			c.idles(ctx)
			return nil
		})
	})
}

func TestPythonIdles(t *testing.T) {
	eachPython(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("py"))
			for _, verb := range []string{"sleep", "block"} {
				go func() { _, _ = sandbox.Call[int, codec.Raw](ctx, a, verb, 3600) }()
			}
			s, err := sandbox.OpenStream[int, codec.Raw](ctx, a, "endless", 1000)
			if err != nil {
				return err
			}
			defer s.Close()
			c.idles(ctx)
			return nil
		}, sandbox.Grace(longGrace))
	})
}
