package sandboxtest_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox"
	"sandboxd/spawn/spawntest"
)

// supervisor keeps a tree busy with calls and streams on the backend of its
// argument, as long as nobody closes its input.
func supervisor() {
	h, err := sandbox.Open(sandbox.Options{ContainerHelper: os.Getenv("SANDBOXD_CONTAINER")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer h.Close()
	ctx, stop := context.WithTimeout(context.Background(), watchdog)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	for ctx.Err() == nil { // a tree after the other, as they are killed
		_ = sandbox.Run(ctx, busyTree(real(os.Args[1])), sandbox.On(h), sandbox.Grace(4*time.Second))
	}
}

// busyTree is a body whose tree of seven actors calls and streams until something happens.
func busyTree(s setup) body {
	return func(ctx context.Context, n *sandbox.Nursery) error {
		spec := s.spec("worker")
		spec.Kinds = map[string]sandbox.Spec{"worker": s.spec("worker")}
		mid := s.spec("worker")
		mid.Kinds = map[string]sandbox.Spec{"worker": s.spec("worker")}
		spec.Kinds["worker"] = mid
		a, err := n.Start(ctx, spec)
		if err != nil {
			return err
		}
		if _, err := sandbox.Call[growth, int](ctx, a, "grow", growth{Depth: 2, Breadth: 2}); err != nil {
			return err
		}
		stream, err := sandbox.OpenStream[int, int](ctx, a, "produce", 0)
		if err != nil {
			return err
		}
		defer stream.Close()
		fmt.Println("busy")
		for i, err := range stream.All(ctx) {
			if err != nil {
				return err
			}
			if i%100 == 0 {
				if _, err := sandbox.Call[int, int](ctx, a, "double", i); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

var kills = flag.Int("kills", 3, "how often TestKillAtRandomMoments kills each of its victims")

// Whoever is killed, at whatever moment, nothing is left: the supervisor takes
// all along, and it itself ends well after the death of any process below it.
func TestKillAtRandomMoments(t *testing.T) {
	rounds := *kills
	if testing.Short() {
		rounds = min(rounds, 2)
	}
	for _, backend := range []string{"native", "process", "container"} {
		for _, victim := range []string{"supervisor", "launcher", "init", "worker"} {
			t.Run(backend+"/"+victim, func(t *testing.T) {
				for range rounds {
					killOne(t, backend, victim)
				}
			})
		}
	}
}

func TestKillAsUser(t *testing.T) { spawntest.SomeAsUser(t, "^TestKillAtRandomMoments$", "") }

func killOne(t *testing.T, backend, victim string) {
	real(backend).starter(t) // or the test does not apply
	spawntest.Watch(t)
	cmd := hosttest.Command("supervisor", backend)
	if backend == "container" {
		cmd.Env = append(cmd.Env, "SANDBOXD_CONTAINER="+hosttest.Container(t))
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the supervisor ended before its tree was busy")
	}
	time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond) // at a random moment
	pid := cmd.Process.Pid
	names := map[string]string{"launcher": spawntest.Launcher, "init": spawntest.Init, "worker": "sandboxtest.tes"}
	if name := names[victim]; name != "" {
		var all []int
		for _, p := range spawntest.Descendants() {
			if p.PID != cmd.Process.Pid && (p.Name == name || victim == "worker" && p.Name != spawntest.Launcher && p.Name != spawntest.Init) {
				all = append(all, p.PID)
			}
		}
		if len(all) == 0 {
			t.Skipf("does not apply: backend %s has no %s", backend, victim)
		}
		pid = all[rand.IntN(len(all))]
	}
	switch err := syscall.Kill(pid, syscall.SIGKILL); {
	case errors.Is(err, syscall.EPERM):
		t.Skipf("does not apply: the %s has an id that uid %d may not signal", victim, os.Geteuid())
	case err != nil && victim == "supervisor": // others may have ended by themselves
		t.Fatal(err)
	}
	in.Close()
	for lines.Scan() { // up to the end of its output: nobody holds it any more
	}
	if err := cmd.Wait(); (err == nil) == (victim == "supervisor") {
		t.Errorf("after the death of process %d, the supervisor ended with %v", pid, err)
	}
}
