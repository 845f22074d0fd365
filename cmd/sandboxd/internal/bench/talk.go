package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
)

// TalkArg makes `sandboxd bench` the program of an actor: see ServeTalk.
const TalkArg = "-talk"

// ServeTalk is what actors of Talk run: "calls" serves them, "raw" sends back
// whatever frame comes, without looking at it, "pour" sends small frames without
// end, and "deaf" serves and never ends.
func ServeTalk(how string) int {
	var err error
	var mux peer.Mux
	peer.Handle(&mux, "echo", func(_ context.Context, b peer.Lent) (peer.Lent, error) { return b, nil })
	peer.HandleStream(&mux, "pour", pour)
	switch how {
	case "raw":
		err = echoFrames()
	case "pour":
		err = pourFrames()
	case "calls":
		err = peer.Serve(context.Background(), &mux)
	case "deaf":
		signal.Ignore()
		peer.Handle(&mux, "grow", grow)
		if _, err = peer.Connect(context.Background(), &mux); err == nil {
			select {}
		}
	default:
		err = fmt.Errorf("no such way to talk: %q", how)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandboxd: bench:", err)
		return 1
	}
	return 0
}

// grow starts two children where the actor may, has them grow as well, and counts all.
func grow(ctx context.Context, _ int) (actors int, err error) {
	actors = 1
	p := peer.From(ctx)
	for range 2 {
		if !p.Serves("sandboxd.spawn") {
			break
		}
		kid, err := p.Spawn(ctx, "deaf", "")
		if err != nil {
			return 0, err
		}
		below, err := peer.CallOther[int, int](ctx, kid, "grow", 0)
		if err != nil {
			return 0, err
		}
		actors += below
	}
	return actors, nil
}

// drop is how many bytes an item of a stream has.
const drop = 64

func pour(ctx context.Context, _ int, s peer.ServerStream[int, []byte]) (int, error) {
	if err := s.Started(ctx, 0); err != nil {
		return 0, err
	}
	for item := make([]byte, drop); ; {
		if err := s.Send(ctx, item); err != nil {
			return 0, err
		}
	}
}

func dial() (*ipc.Conn, error) {
	path := os.Getenv("SANDBOXD_PEER")
	if path == "" {
		path = peer.Socket
	}
	return ipc.Dial(path)
}

// pourFrames sends each frame with a write of its own, as a program does that has its items one by one.
func pourFrames() error {
	c, err := dial()
	if err != nil {
		return err
	}
	buf := make([]byte, 4+drop)
	binary.LittleEndian.PutUint32(buf, drop)
	for {
		if _, err := c.Write(buf); errors.Is(err, unix.EPIPE) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func echoFrames() error {
	c, err := dial()
	if err != nil {
		return err
	}
	buf := make([]byte, 4+1<<20)
	for {
		n, err := readFrame(c, buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			_, err = c.Write(buf[:n])
		}
		if err != nil {
			return err
		}
	}
}

// readFrame reads a length and as many bytes, and returns how many that were in all.
func readFrame(r io.Reader, buf []byte) (int, error) {
	if _, err := io.ReadFull(r, buf[:4]); err != nil {
		return 0, err
	}
	n := 4 + int(binary.LittleEndian.Uint32(buf))
	_, err := io.ReadFull(r, buf[4:n])
	return n, err
}

// talker has so many messages of a size sent there and back, and says how long all of them took.
type talker func(ctx context.Context, size, times int) (time.Duration, error)

// each makes a talker of what sends one message and gets it back.
func each(once func(ctx context.Context, payload []byte) error) talker {
	return func(ctx context.Context, size, times int) (time.Duration, error) {
		payload := make([]byte, size)
		start := time.Now()
		for range times {
			if err := once(ctx, payload); err != nil {
				return 0, err
			}
		}
		return time.Since(start), nil
	}
}

// Talk compares calls of an actor with the same bytes, in frames and nothing
// else, and with gRPC, to and from an actor in the same kind of sandbox over the
// same kind of socket: in each round some of all, in turn.
func Talk(ctx context.Context, w *Workspace, rounds int) (rows []Row, err error) {
	h, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	raw, end, err := rawTalker(ctx, h)
	if err != nil {
		return nil, err
	}
	defer end()
	rpc, absent := startGRPC(ctx, h, w)
	if rpc != nil {
		defer func() { err = errors.Join(err, rpc.close()) }()
	}
	err = sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
		a, err := n.Start(ctx, sandbox.This("bench", TalkArg, "calls"))
		if err != nil {
			return err
		}
		back := make([]byte, 0, 1<<20) // as the others have their buffers
		talkers := []talker{each(func(ctx context.Context, payload []byte) error {
			return sandbox.CallInto(ctx, a, "echo", payload, &back)
		}), raw}
		if rpc != nil {
			talkers = append(talkers, rpc.talk)
		}
		for _, c := range []struct {
			id, text    string
			size, times int
			limit       float64 // of bare frames
			rpc         float64 // of gRPC; 0: nothing is claimed
		}{
			{"call/64", "call with 64 bytes there and back", 64, 200, 1.5, 1 / 3.},
			{"call/1MiB", "call with 1 MiB there and back", 1<<20 - 64, 4, 3, 0},
		} {
			series, err := inTurn(ctx, talkers, c.size, c.times, rounds)
			if err != nil {
				return err
			}
			took := func(i int) time.Duration { return series[i].Stats().Median.Round(100 * time.Nanosecond) }
			rows = append(rows, AtMost(c.id, c.text+": of the same in bare frames", Times, series[0].RatioTo(series[1]).PerRound, c.limit,
				fmt.Sprintf("calls %v, frames %v", took(0), took(1))))
			id, text := c.id+"/grpc", c.text+": of a unary gRPC call with bytes, in the same kind of sandbox"
			switch {
			case rpc != nil:
				ratio := series[0].RatioTo(series[2]).PerRound
				note := fmt.Sprintf("calls %v, gRPC %v; %s", took(0), took(2), rpc.version)
				if c.rpc > 0 {
					rows = append(rows, AtMost(id, text, Times, ratio, c.rpc, note))
				} else {
					rows = append(rows, Figure(id, text, Times, ratio, note))
				}
			case c.rpc > 0:
				rows = append(rows, NotMeasured(id, text, Times, c.rpc, absent.Error()))
			}
		}
		row, err := streams(ctx, h, a, rounds)
		rows = append(rows, row)
		return err
	}, sandbox.On(h))
	return rows, err
}

// streams compares the items of a stream with bare frames: in each round some of either, in turn.
func streams(ctx context.Context, h *sandbox.Host, a *sandbox.Actor, rounds int) (none Row, err error) {
	c, end, err := rawActor(ctx, h, "pour")
	if err != nil {
		return none, err
	}
	defer end()
	s, err := sandbox.OpenStream[int, []byte](ctx, a, "pour", 0)
	if err != nil {
		return none, err
	}
	defer s.Close()
	r, buf := bufio.NewReaderSize(c, 32<<10), make([]byte, 4+drop)
	series, err := inTurn(ctx, []talker{each(func(ctx context.Context, _ []byte) error {
		_, err := s.Recv(ctx)
		return err
	}), each(func(context.Context, []byte) error {
		_, err := readFrame(r, buf)
		return err
	})}, 0, 20000, rounds)
	if err != nil {
		return none, err
	}
	ours, theirs := series[0], series[1]
	rate := func(s Series) string { return fmt.Sprintf("%.2f million/s", 1e3/float64(s.Stats().Median)) }
	return AtMost("stream/64", "time of an item of 64 bytes of a stream: of the same in bare frames", Times, ours.RatioTo(theirs).PerRound, 1.5,
		fmt.Sprintf("items %s, frames %s", rate(ours), rate(theirs))), nil
}

// rawActor is an actor whose connection nothing but its program and the caller speak over.
func rawActor(ctx context.Context, h *sandbox.Host, how string) (io.ReadWriteCloser, func(), error) {
	p, err := h.Start(ctx, sandbox.This("bench", TalkArg, how))
	if err != nil {
		return nil, nil, err
	}
	c, err := p.Accept(ctx)
	if err != nil {
		p.Cancel("measured", 0)
		<-p.Gone()
		return nil, nil, err
	}
	return c, func() { c.Close(); p.Cancel("measured", 0); <-p.Gone() }, nil
}

func rawTalker(ctx context.Context, h *sandbox.Host) (talker, func(), error) {
	c, end, err := rawActor(ctx, h, "raw")
	if err != nil {
		return nil, nil, err
	}
	buf := make([]byte, 4+1<<20)
	return each(func(_ context.Context, payload []byte) error {
		binary.LittleEndian.PutUint32(buf, uint32(len(payload)))
		copy(buf[4:], payload)
		if _, err := c.Write(buf[:4+len(payload)]); err != nil {
			return err
		}
		_, err := readFrame(c, buf)
		return err
	}), end, nil
}

// inTurn is the time of one message there and back, by talker and round.
func inTurn(ctx context.Context, talkers []talker, size, times, rounds int) ([]Series, error) {
	all := make([]Series, len(talkers))
	for round := range rounds + 1 {
		for i, t := range talkers {
			took, err := t(ctx, size, times)
			if err != nil {
				return nil, err
			}
			if round > 0 { // the first is to warm up
				all[i] = append(all[i], took/time.Duration(times))
			}
		}
	}
	return all, nil
}

// Cancels measures how long a cancel takes from the request to the proof that
// nothing is left: of an actor that obeys, and of a tree that does not.
func Cancels(ctx context.Context, rounds int) (rows []Row, err error) {
	h, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	var willing Series
	err = sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
		for range max(rounds, 20) {
			a, err := n.Start(ctx, sandbox.This("bench", TalkArg, "calls"))
			if err != nil {
				return err
			}
			start := time.Now()
			if err := a.Cancel(ctx, "measured"); err != nil {
				return err
			}
			willing = append(willing, time.Since(start))
		}
		return nil
	}, sandbox.On(h))
	if err != nil {
		return nil, err
	}
	const grace = 300 * time.Millisecond
	var over Series
	actors := 0
	for range 3 {
		start := time.Time{}
		err := sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
			a, err := n.Start(ctx, deafTree(2))
			if err != nil {
				return err
			}
			if actors, err = sandbox.Call[int, int](ctx, a, "grow", 0); err != nil {
				return fmt.Errorf("bench: a tree does not grow: %w", err)
			}
			start = time.Now()
			return nil
		}, sandbox.On(h), sandbox.Grace(grace))
		if !errors.Is(err, sandbox.ErrTooSlow) || start.IsZero() {
			return nil, fmt.Errorf("bench: a deaf tree ended by %w; want ErrTooSlow", err)
		}
		over = append(over, time.Since(start)-grace)
	}
	w, o := willing.Stats(), over.Stats()
	note := fmt.Sprintf("median %v", w.Median.Round(time.Microsecond))
	return []Row{
		AtMost("cancel/p95", "cancel of an actor that obeys, to the proof that nothing is left, p95", Nanoseconds, float64(w.P95), 2e6, note),
		AtMost("cancel/max", "cancel of an actor that obeys, worst", Nanoseconds, float64(w.Max), 5e6, ""),
		AtMost("cancel/deaf", "cancel of a tree that does not, beyond its one grace", Nanoseconds, float64(o.Median), 5e6,
			fmt.Sprintf("%d actors, three deep, worst %v", actors, o.Max.Round(time.Microsecond))),
	}, nil
}

// deafTree is an actor that ends by force only, with children of its kind to that depth.
func deafTree(depth int) sandbox.Spec {
	s := sandbox.This("bench", TalkArg, "deaf")
	if depth > 0 {
		s.Kinds = map[string]sandbox.Spec{"deaf": deafTree(depth - 1)}
		s.Limits.PIDs = 1024
		s.Limits.Memory = 1 << 30
	}
	return s
}
