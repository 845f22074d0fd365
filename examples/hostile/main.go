// Hostile is a parent that survives hostile children: one that forks without
// end, one that never answers, one that speaks garbage. Each costs its own call.
//
//	go run ./examples/hostile
//
// Non-goals: every attack; see integration/hostile.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sandboxd/sandbox"
)

var children = []struct {
	name, code string
}{
	{"forks", "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"},
	{"deaf", "import signal, time\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\nwhile True: time.sleep(1)"},
	{"garbage", "import os, socket, time\ns = socket.socket(socket.AF_UNIX)\ns.connect(os.environ.get('SANDBOXD_PEER', '/run/sandboxd/peer.sock'))\ns.sendall(b'\\xff' * 100000)\ns.recv(1)\ntime.sleep(60)"},
}

func main() {
	for _, c := range children {
		err := sandbox.Run(context.Background(), func(ctx context.Context, n *sandbox.Nursery) error {
			_, err := n.Start(ctx, sandbox.Spec{
				Name: c.name, Argv: []string{"python3", "-c", c.code}, Peer: true,
				Limits:      sandbox.Limits{PIDs: 32, Timeout: 20 * time.Second},
				BootTimeout: 2 * time.Second,
			})
			return err
		}, sandbox.Grace(200*time.Millisecond))
		var actor *sandbox.ActorError
		if !errors.As(err, &actor) {
			fmt.Println(c.name, "was let in:", err)
			os.Exit(1)
		}
		fmt.Printf("%s: refused, and gone (%s)\n", c.name, actor.Report.Exit.Reason)
	}
}
