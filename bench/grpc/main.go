// Sandboxd-bench-grpc is what `sandboxd bench` compares its calls with: one
// gRPC verb that gives back the bytes it got, over a Unix socket.
//
//	sandboxd-bench-grpc serve SOCKET   # in a sandbox, as the actor is
//	sandboxd-bench-grpc call SOCKET    # reads lines "SIZE TIMES", writes how many nanoseconds those calls took
//
// It is a module of its own, so that nobody else links gRPC. Payloads are bytes
// as they are, without protobuf; everything else is as gRPC has it by default.
//
// Non-goals: any use but that one.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

const method = "/bench.Echo/Echo"

func main() {
	run := map[string]func(string) error{"serve": serve, "call": call}
	if len(os.Args) != 3 || run[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: sandboxd-bench-grpc serve|call SOCKET")
		os.Exit(2)
	}
	if err := run[os.Args[1]](os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "sandboxd-bench-grpc:", err)
		os.Exit(1)
	}
}

// bytesCodec carries a *[]byte as it is, and reads into the one that is there.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "bytes" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b := v.(*[]byte)
	*b = slices.Grow((*b)[:0], data.Len())[:data.Len()]
	data.CopyTo(*b)
	return nil
}

func echo(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var b []byte
	if err := decode(&b); err != nil {
		return nil, err
	}
	return &b, nil
}

func serve(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: echo}},
	}, struct{}{})
	return s.Serve(l)
}

func call(socket string) error {
	c, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.WaitForReady(true)))
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("grpc-go", grpc.Version)
	for lines := bufio.NewReader(os.Stdin); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil // whoever measured has done so
		}
		var size, times int
		if _, err := fmt.Sscanf(line, "%d %d\n", &size, &times); err != nil {
			return fmt.Errorf("read %q: %w", line, err)
		}
		payload, got := make([]byte, size), make([]byte, 0, size)
		start := time.Now()
		for range times {
			if err := c.Invoke(context.Background(), method, &payload, &got); err != nil {
				return err
			}
			if len(got) != size {
				return fmt.Errorf("%d bytes came back, not %d", len(got), size)
			}
		}
		fmt.Println(time.Since(start).Nanoseconds())
	}
}
