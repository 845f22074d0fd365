package sandbox

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// stdio moves bytes between the caller's streams and the program. The program
// never holds a descriptor of the caller's: with one it could reopen, truncate
// or, on a terminal, type into it.
type stdio struct {
	spec  *Spec
	limit int64 // of bytes out; 0: none
	end   func(Reason, string)

	child [3]*os.File // the program's ends
	ours  [3]*os.File
	out   atomic.Int64
	pumps sync.WaitGroup
}

func newStdio(r *resolved, end func(Reason, string)) (*stdio, error) {
	s := &stdio{spec: &r.spec, limit: r.limits.Output, end: end}
	if r.spec.Terminal != nil {
		return s, nil
	}
	for i := range 3 {
		if i == 0 && r.spec.Stdin == nil {
			null, err := os.Open(os.DevNull)
			if err != nil {
				return nil, err
			}
			s.child[0] = null
			continue
		}
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			s.closeChild()
			closeAll(s.ours[:]...)
			return nil, fmt.Errorf("stdio pipe: %w", err)
		}
		here, there := 0, 1
		if i == 0 {
			here, there = 1, 0
		}
		_ = unix.SetNonblock(p[here], true) // ours waits in the runtime's poller; the program's blocks, as programs expect
		s.ours[i], s.child[i] = os.NewFile(uintptr(p[here]), "stdio"), os.NewFile(uintptr(p[there]), "stdio")
	}
	return s, nil
}

func (s *stdio) closeChild() {
	closeAll(s.child[:]...)
	s.child = [3]*os.File{}
}

// closeInput ends the program's stdin for good.
func (s *stdio) closeInput() {
	if s.ours[0] != nil {
		s.ours[0].Close()
	}
}

// run starts the pumps. Of a terminal they have a descriptor of their own, which
// outlives the actor's: what the program showed last is still in there then.
func (s *stdio) run(terminal *os.File) error {
	in, outs := s.ours[0], []*os.File{s.ours[1], s.ours[2]}
	if terminal != nil {
		fd, err := unix.FcntlInt(terminal.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		in = os.NewFile(uintptr(fd), "terminal")
		outs = []*os.File{in}
	}
	if s.spec.Stdin != nil {
		go func() { // not waited for: a read of the caller's stdin cannot be interrupted
			_, _ = io.Copy(in, s.spec.Stdin)
			if terminal == nil {
				in.Close()
			}
		}()
	}
	for i, from := range outs {
		to := s.spec.Stdout
		if i == 1 {
			to = s.spec.Stderr
		}
		if to == nil {
			to = io.Discard
		}
		s.pumps.Go(func() { s.pump(to, from) })
	}
	return nil
}

// pump delivers output until its end or the limit.
func (s *stdio) pump(to io.Writer, from *os.File) {
	defer from.Close() // where the reader went away, the program gets SIGPIPE like anywhere
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			total := s.out.Add(int64(n))
			keep := n
			if over := total - s.limit; s.limit > 0 && over > 0 {
				keep = max(0, n-int(over))
				s.end(Output, s.reached())
			}
			if _, werr := to.Write(buf[:keep]); werr != nil || keep < n {
				return
			}
			if n == len(buf) && n < 64<<10 {
				buf = make([]byte, 64<<10) // there is much to come
			}
		}
		if err != nil {
			return
		}
	}
}

// wait returns when all output is delivered, its size, and whether the limit cut it.
func (s *stdio) wait() (delivered int64, cut bool) {
	s.pumps.Wait()
	if n := s.out.Load(); s.limit == 0 || n <= s.limit {
		return n, false
	}
	return s.limit, true
}

func (s *stdio) reached() string { return fmt.Sprintf("output limit of %s reached", size(s.limit)) }
