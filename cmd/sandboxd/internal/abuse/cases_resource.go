package abuse

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/sandbox"
)

// bomb is a case whose attack takes a bounded amount of something, more than
// its sandbox has; its control is the same in a sandbox that has enough.
func bomb(id, says, want string, limit, enough func(*sandbox.Limits), attack func() error) Case {
	return Case{
		ID: id, Says: says, Want: want,
		Attack: func([]string) error {
			signal.Ignore(unix.SIGXFSZ)
			if err := attack(); err != nil {
				return &defused{err}
			}
			return nil
		},
		Stage:  func(s *stage) error { limit(&s.spec.Limits); return nil },
		Opened: func(s *sandbox.Spec) { enough(&s.Limits) },
	}
}

func resourceCases() []Case {
	const mib = 1 << 20
	memory := func(l *sandbox.Limits) { l.Memory = 64 * mib }
	roomy := func(l *sandbox.Limits) { l.Memory = 320 * mib }
	pids := func(n int64) func(*sandbox.Limits) { return func(l *sandbox.Limits) { l.PIDs = n } }
	// Without a cgroup a resource limit holds, and that tells nobody.
	const counted = "pids; without cgroup-pids: EAGAIN|exited"
	const oom = "oom; without cgroup-memory: refused"
	home := func(name string) string {
		if dir := os.Getenv("TMPDIR"); dir != "" {
			return filepath.Join(dir, name)
		}
		return filepath.Join("/tmp", name)
	}
	return []Case{
		bomb("resource/fork", "start processes without end", counted, pids(32), pids(200), func() error {
			for range 100 {
				if err := sleeper(10, false); err != nil {
					return err
				}
			}
			return nil
		}),
		bomb("resource/threads", "start threads without end", "pids; without cgroup-pids: exited", pids(32), pids(200), func() error {
			for range 100 {
				go func() {
					runtime.LockOSThread()
					_ = unix.Nanosleep(&unix.Timespec{Sec: 10}, nil)
				}()
				time.Sleep(time.Millisecond)
			}
			time.Sleep(50 * time.Millisecond)
			return nil
		}),
		bomb("resource/memory", "take memory", oom, memory, roomy, func() error { return hog(func(n int) ([]byte, error) { return make([]byte, n), nil }) }),
		bomb("resource/memory-memfd", "take memory by a memory file", oom, memory, roomy, func() error {
			fd, err := unix.MemfdCreate("hog", unix.MFD_CLOEXEC)
			if err != nil {
				return err
			}
			return fill(fd, 160*mib)
		}),
		bomb("resource/memory-shared", "take memory by a mapping that nobody owns", oom, memory, roomy, func() error {
			return hog(func(n int) ([]byte, error) {
				return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
			})
		}),
		bomb("resource/memory-tmp", "take memory by files in /tmp", oom, memory, roomy, func() error {
			var fs unix.Statfs_t
			if err := unix.Statfs(home(""), &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
				return errors.Join(err, word("on disk"))
			}
			return write(home("hog"), 160*mib)
		}),
		bomb("resource/memory-shm", "take memory by files in /dev/shm", oom, memory, roomy, func() error { return write("/dev/shm/hog", 160*mib) }),
		bomb("resource/memory-sockets", "take memory by what waits in sockets", oom, memory, roomy, func() error {
			size := 64 << 10
			b := make([]byte, size)
			for held := 0; held < 100*mib; {
				pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
				if err != nil {
					return err
				}
				for {
					n, err := unix.Write(pair[0], b)
					if err == unix.EAGAIN {
						break
					}
					if err != nil {
						return err
					}
					held += n
				}
			}
			return nil
		}),
		bomb("resource/disk", "fill the disk", "disk", func(l *sandbox.Limits) { l.Disk = 8 * mib }, func(l *sandbox.Limits) { l.Disk = 64 * mib }, func() error { return write(home("fill"), 16*mib) }),
		bomb("resource/inodes", "fill the disk with empty files", "disk", func(l *sandbox.Limits) { l.DiskInodes = 100 }, func(l *sandbox.Limits) { l.DiskInodes = 1000 }, func() error {
			for i := range 200 {
				if err := os.WriteFile(home("n"+strconv.Itoa(i)), nil, 0o600); err != nil {
					return err
				}
			}
			return nil
		}),
		bomb("resource/file-size", "write one large file", "EFBIG", func(l *sandbox.Limits) { l.FileSize = mib }, func(l *sandbox.Limits) { l.FileSize = 8 * mib }, func() error { return write(home("large"), 2*mib) }),
		bomb("resource/output", "talk without end", "output", func(l *sandbox.Limits) { l.Output = 64 << 10 }, func(l *sandbox.Limits) { l.Output = 16 * mib }, func() error {
			_, err := os.Stdout.WriteString(strings.Repeat(strings.Repeat("\x1b[2J", 20)+"\n", 10000))
			return err
		}),
		bomb("resource/descriptors", "open files without end", "EMFILE", func(*sandbox.Limits) {}, func(l *sandbox.Limits) {
			l.Ulimits = []sandbox.Ulimit{{Name: "nofile", Soft: 4000, Hard: 4000}}
		}, func() error {
			for range 2000 {
				if _, err := unix.Dup(0); err != nil {
					return err
				}
			}
			return nil
		}),
		bomb("resource/cpu-time", "compute without end, in several threads", "cpu-time; without cgroup-cpu-time: refused", func(l *sandbox.Limits) { l.CPUTime = 300 * time.Millisecond }, func(l *sandbox.Limits) { l.CPUTime = 30 * time.Second }, func() error {
			spin(1500 * time.Millisecond)
			return nil
		}),
		bomb("resource/wall-time", "sleep for ever", "timeout", func(l *sandbox.Limits) { l.Timeout = 200 * time.Millisecond }, func(l *sandbox.Limits) { l.Timeout = patience }, func() error {
			time.Sleep(time.Second)
			return nil
		}),
		bomb("resource/stopped", "stop oneself, so that no timer of one's own runs", "timeout", func(l *sandbox.Limits) { l.Timeout = 300 * time.Millisecond }, func(l *sandbox.Limits) { l.Timeout = patience }, func() error {
			if os.Getppid() != 0 { // wake us in a second, should nobody else do so
				if err := waker(time.Second); err != nil {
					return err
				}
			}
			return unix.Kill(os.Getpid(), unix.SIGSTOP)
		}),
	}
}

// hog takes 160 MiB and uses it.
func hog(take func(int) ([]byte, error)) error {
	var held [][]byte
	for range 160 {
		b, err := take(1 << 20)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		held = append(held, b)
	}
	runtime.KeepAlive(held)
	return nil
}

func write(path string, n int) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	if err := fill(fd, n); err != nil {
		return err // and the disk stays full
	}
	return unix.Unlink(path)
}

func fill(fd, n int) error {
	b := make([]byte, 64<<10)
	for done := 0; done < n; {
		w, err := unix.Write(fd, b)
		if err != nil {
			return err
		}
		done += w
	}
	return nil
}

// spin uses that much CPU time, or twice as much wall time.
func spin(d time.Duration) {
	var now unix.Timespec
	for end := time.Now().Add(8 * d); time.Now().Before(end); {
		if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now) != nil || time.Duration(now.Nano()) > d {
			return
		}
	}
}

// sleeper is a child that sleeps for some seconds and ends, in a session of its own if so.
//
//go:norace
func sleeper(seconds int64, session bool) error {
	ts := unix.Timespec{Sec: seconds}
	pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return e
	}
	if pid == 0 {
		if session {
			_, _, _ = unix.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
		}
		for fd := range uintptr(3) {
			_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		}
		nap(&ts)
	}
	return nil
}

// waker is a child that continues its parent after a while.
//
//go:norace
func waker(after time.Duration) error {
	ts, parent := unix.NsecToTimespec(int64(after)), uintptr(os.Getpid())
	pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return e
	}
	if pid == 0 {
		_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, addr(&ts), 0, 0, 0)
		_, _, _ = unix.RawSyscall(unix.SYS_KILL, parent, uintptr(unix.SIGCONT), 0)
		ts.Sec = 0
		nap(&ts)
	}
	return nil
}

// leaveDaemon leaves a process behind that no signal but SIGKILL ends; it ends by itself.
func leaveDaemon() error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	return sleeper(3, true)
}

// victim does a little work over and over until its input ends, and prints how
// long that took, worst hundredth and median, in microseconds.
func victim() int {
	fmt.Println("ready")
	end := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(end)
	}()
	var took []time.Duration
	for {
		select {
		case <-end:
			p99, median := quantiles(took)
			fmt.Println(p99.Microseconds(), median.Microseconds(), len(took))
			return 0
		default:
		}
		start := time.Now()
		sum := 0
		for i := range 200000 {
			sum += i * i
		}
		runtime.KeepAlive(sum)
		time.Sleep(time.Millisecond) // what wakes late counts as well
		took = append(took, time.Since(start))
	}
}
