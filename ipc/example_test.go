package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"sandboxd/ipc"
)

// The supervisor's half of a handshake. The peer, here in the same process,
// would be the init of a sandbox.
func Example() {
	dir, err := os.MkdirTemp("", "ipc")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "peer.sock")
	listener, err := ipc.Listen(path)
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	ctx := context.Background()
	expect := ipc.Expect{Actor: "worker", Epoch: 1, Nonce: [16]byte{42}, PID: os.Getpid()}

	go func() {
		conn, err := ipc.Dial(path)
		if err != nil {
			panic(err)
		}
		hello := ipc.Hello{Proto: ipc.Proto, Actor: expect.Actor, Epoch: expect.Epoch, Nonce: expect.Nonce, PID: 1}
		if _, err := ipc.SayHello(ctx, conn, hello); err != nil {
			panic(err)
		}
		if err := conn.Send(ctx, &ipc.Ready{PID: 2}); err != nil {
			panic(err)
		}
	}()

	conn, hello, err := ipc.AcceptHello(ctx, listener, expect)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Println("hello from pid", hello.PID)
	if err := ipc.SendWelcome(ctx, conn, ipc.Welcome{Epoch: 1, Plan: []byte("plan")}); err != nil {
		panic(err)
	}
	ready, terminal, err := ipc.AwaitReady(ctx, conn, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println("program is pid", ready.PID, "with terminal:", terminal != nil)
	// Output:
	// hello from pid 1
	// program is pid 2 with terminal: false
}

// A step that failed keeps its errno.
func ExampleStepError() {
	var err error = fmt.Errorf("spawn: %w", &ipc.StepError{Step: 29, Index: 4, Errno: syscall.ENOENT})
	if step, ok := errors.AsType[*ipc.StepError](err); ok {
		fmt.Println("index", step.Index, "missing file:", errors.Is(err, fs.ErrNotExist))
	}
	// Output: index 4 missing file: true
}

// The bytes of a message are fixed, so that an init in C can write them.
func ExampleFailed() {
	m := ipc.Failed{Step: 7, Index: 12, Errno: uint16(syscall.ENOENT)}
	b, err := m.AppendBinary(nil)
	fmt.Printf("% x %v\n", b, err)
	// Output: 94 04 cd 00 07 cd 00 0c cd 00 02 <nil>
}
