// Command sandboxd-wasm runs one WASI module (preview 1) for the backend "wasm"
// (package sandboxd/spawn/wasm), which starts it in a sandbox; it is of no use
// by itself.
//
//	sandboxd-wasm --version
//
// It opens the module with the rights of the program that it stands for, says
// over the actor's socket what became of it, and gives it "/", the streams,
// arguments, environment, clocks and random numbers. A module that ends by
// proc_exit ends it with that status; one that traps, by SIGABRT.
//
// Non-goals: confining itself (the backend below has done so before its first
// instruction), and counting instructions, which the runtime cannot do: who is
// not to run for ever is killed from outside.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"

	"sandboxd/ipc"
	"sandboxd/sandbox/peer"
	"sandboxd/spawn/wasm/job"
)

// Version is that of the build.
var Version = "devel"

func init() { runtime.LockOSThread() } // main names its thread, which must be the process's first

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Printf("%s %s (jobs of version %d, %s)\n", job.Program, Version, job.Version, runtime.Version())
		return
	}
	j, err := job.Parse(os.Args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v; it is started by programs that use the backend \"wasm\", such as sandboxd run --backend wasm\n", job.Program, err)
		os.Exit(2)
	}
	signals()
	name(j.Argv[0])
	if j.Memory > 0 { // what the compiler leaves behind is collected before it costs the actor its life
		debug.SetMemoryLimit(j.Memory - j.Memory/4)
	}
	conn, err := ipc.Dial(peer.Socket)
	if err != nil {
		os.Exit(3) // whoever waits learns of it by this end
	}
	ctx := context.Background()
	p, err := prepare(ctx, conn, j)
	if err != nil {
		no := job.Failed{Errno: syscall.ENOEXEC, Text: err.Error()}
		if e, ok := errors.AsType[*moduleError](err); ok {
			no.Errno = e.errno
		}
		_ = conn.Send(ctx, &no)
		_, _ = conn.Recv(ctx, 0) // until it is heard: who is dead by then counts for a stranger
		os.Exit(3)
	}
	_, _ = conn.Recv(ctx, 0) // until Start is about to return: what follows is the module's own time
	debug.FreeOSMemory()
	debug.SetMemoryLimit(math.MaxInt64) // the module's memory is not the runtime's
	p.run(ctx, j)
}

// prepare gets the module ready to run, in step with the backend.
func prepare(ctx context.Context, conn *ipc.Conn, j job.Job) (*program, error) {
	module, err := read(j)
	if err != nil {
		return nil, err
	}
	if err := conn.Send(ctx, &job.Opened{Module: module.sum}); err != nil {
		return nil, err
	}
	f, err := conn.Recv(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b job.Begin
	if err := b.UnmarshalBinary(f.Body); err != nil {
		return nil, err
	}
	p, err := newProgram(ctx, j, module.bytes, stored{b.Name, f.File})
	if err != nil {
		return nil, err
	}
	if p.fresh.file == nil {
		return p, conn.Send(ctx, &job.Ready{})
	}
	defer p.fresh.file.Close()
	return p, conn.Send(ctx, &job.Ready{Name: p.fresh.name}, p.fresh.file)
}
