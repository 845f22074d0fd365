package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sandboxd/rootfs"
	"sandboxd/sandbox"
)

// grpcName is the program of bench/grpc: a module of its own, so that we do not link gRPC.
const grpcName = "sandboxd-bench-grpc"

// grpcPeer is a gRPC server in a sandbox, and a client that calls it and measures.
type grpcPeer struct {
	server  *sandbox.Process
	client  *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	version string
}

// startGRPC starts both, who talk over a socket in a directory that is let in.
// The error is an *AbsentError.
func startGRPC(ctx context.Context, h *sandbox.Host, w *Workspace) (*grpcPeer, error) {
	path, err := findGRPC()
	if err != nil {
		return nil, &AbsentError{Subject: "gRPC", Reason: grpcName + " is neither beside this program nor in PATH; make bench builds it", Err: err}
	}
	g := &grpcPeer{}
	if err := g.start(ctx, h, path, filepath.Join(w.dir, "grpc")); err != nil {
		return nil, &AbsentError{Subject: "gRPC", Reason: grpcName + " does not answer", Err: errors.Join(err, g.close())}
	}
	return g, nil
}

func findGRPC() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), grpcName)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	found, err := exec.LookPath(grpcName)
	if err != nil {
		return "", err
	}
	return filepath.Abs(found)
}

func (g *grpcPeer) start(ctx context.Context, h *sandbox.Host, path, dir string) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	const inside, socket = "/grpc", "socket"
	g.server, err = h.Start(ctx, sandbox.Spec{
		Name: "grpc", Argv: []string{"/" + grpcName, "serve", inside + "/" + socket},
		Mounts: []rootfs.Mount{{Source: path, Target: "/" + grpcName}, {Source: dir, Target: inside, Writable: true}},
		Stderr: os.Stderr,
	})
	if err != nil {
		return err
	}
	g.client = exec.Command(path, "call", filepath.Join(dir, socket))
	g.client.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us; it ends with its input
	g.client.Stderr = os.Stderr
	if g.in, err = g.client.StdinPipe(); err != nil {
		return err
	}
	out, err := g.client.StdoutPipe()
	if err != nil {
		return err
	}
	g.out = bufio.NewReader(out)
	if err := g.client.Start(); err != nil {
		g.client = nil
		return err
	}
	if g.version, err = g.line(); err != nil {
		return err
	}
	_, err = g.talk(ctx, 1, 1)
	return err
}

// line is what the client says next; one that says nothing is ended.
func (g *grpcPeer) line() (string, error) {
	late := time.AfterFunc(spawnTimeout, func() { _ = g.client.Process.Kill() })
	defer late.Stop()
	s, err := g.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s: %w", grpcName, err)
	}
	return strings.TrimSpace(s), nil
}

// talk is a talker. The client measures: what is asked and answered between it and us does not count.
func (g *grpcPeer) talk(_ context.Context, size, times int) (time.Duration, error) {
	if _, err := fmt.Fprintln(g.in, size, times); err != nil {
		return 0, fmt.Errorf("%s: %w", grpcName, err)
	}
	s, err := g.line()
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(s, 10, 64)
	return time.Duration(ns), err
}

func (g *grpcPeer) close() (err error) {
	if g.client != nil {
		g.in.Close()
		err = g.client.Wait()
	}
	if g.server != nil {
		g.server.Cancel("measured", 0)
		<-g.server.Gone()
	}
	return err
}
