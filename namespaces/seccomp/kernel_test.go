package seccomp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// The kernel takes the filter and answers real calls as the policy says.
func TestKernelAnswers(t *testing.T) {
	for _, o := range []Options{{}, {NoInet: true}} {
		cmd := helper(t, "calls", o)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("helper: %v: %s", err, stderr(err))
		}
		var got []syscall.Errno
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		for i, c := range realCalls() {
			want := c.want
			if o.NoInet && c.noInet != 0 {
				want = c.noInet
			}
			if got[i] != want {
				t.Errorf("%+v: %s%#x: %v, want %v", o, c.name, c.args, got[i], want)
			}
		}
		// mkdir needs no rule because of this.
		dir, err := os.Stat(filepath.Join(cmd.Dir, "dir"))
		if err != nil || dir.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
			t.Errorf("mkdirat with set-id bits made %v (%v)", dir.Mode(), err)
		}
	}
}

func stderr(err error) []byte {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.Stderr
	}
	return nil
}

// start runs a helper in kill mode, and returns its listener and a wait for its
// end. It is reaped at once: before Linux 6.11 a zombie still has its filter.
func start(t *testing.T, cmd *exec.Cmd) (*Listener, func() error) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "listener socket")
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := sync.OnceValue(cmd.Wait)
	go wait()
	t.Cleanup(func() {
		cmd.Process.Kill()
		wait()
	})
	theirs.Close()
	oob := make([]byte, 64)
	n, oobn, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n != 1 {
		t.Fatalf("no listener from the helper: %d bytes, %v, %v", n, err, cmd.Stderr)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewListener(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, wait
}

func TestListenerNamesTheCall(t *testing.T) {
	cmd := helper(t, "forbidden", Options{Kill: true})
	l, _ := start(t, cmd)
	n, err := l.Recv(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n.Syscall != "ptrace" || n.Nr != unix.SYS_PTRACE || n.Arch != Native() || n.Args[2] != 7 {
		t.Errorf("received %+v, want ptrace with 7 as its third argument", n)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", cmd.Process.Pid, n.PID)); err != nil { // it waits for the answer
		t.Errorf("from thread %d, which process %d does not have: %v", n.PID, cmd.Process.Pid, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("told to stop")
	time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
	if _, err := l.Recv(ctx); !errors.Is(err, cause) {
		t.Errorf("Recv ended with %v, want the cause of its context", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Recv(t.Context()); err != io.EOF {
		t.Errorf("Recv after the death of the last process: %v, want io.EOF", err)
	}
}

// The end comes to a Recv that already waits, too.
func TestListenerEndsWhileWaiting(t *testing.T) {
	cmd := helper(t, "exec", Options{Kill: true}, "sleep", "600")
	l, _ := start(t, cmd)
	done := make(chan error)
	go func() {
		_, err := l.Recv(context.Background())
		done <- err
	}()
	time.Sleep(20 * time.Millisecond) // most likely it waits by now; either way it must end
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != io.EOF {
		t.Errorf("%v, want io.EOF", err)
	}
}

// Without a listener a forbidden call fails, it does not run.
func TestClosedListenerFails(t *testing.T) {
	cmd := helper(t, "forbidden", Options{Kill: true})
	var out bytes.Buffer
	cmd.Stderr = &out
	l, wait := start(t, cmd)
	if _, err := l.Recv(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err == nil || !strings.Contains(out.String(), "ptrace: function not implemented") {
		t.Errorf("the helper ended with %v and said %q", err, &out)
	}
	if _, err := l.Recv(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Recv on a closed listener: %v", err)
	}
}

func TestNewListenerRefuses(t *testing.T) {
	fd, err := unix.Open(os.Args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewListener(fd); err == nil {
		t.Fatal("a regular file became a listener")
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the refused descriptor is still open: %v", err)
	}
	if _, err := NewListener(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("descriptor -1: %v", err)
	}
}

const python = `
import ctypes, os, socket, sqlite3, ssl, subprocess, sys, tempfile, threading, time, multiprocessing, asyncio, mmap, select, shutil, random
t = threading.Thread(target=lambda: time.sleep(0.001)); t.start(); t.join()
assert subprocess.run(["/bin/sh", "-c", "echo hi | cat"], capture_output=True).stdout == b"hi\n"
d = tempfile.mkdtemp(dir="."); db = sqlite3.connect(d + "/db"); db.execute("create table t(x)"); db.execute("insert into t values(1)"); db.commit(); db.close()
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); c = socket.create_connection(s.getsockname())
socket.getaddrinfo("localhost", 80); socket.if_nameindex(); ssl.create_default_context()
assert multiprocessing.get_context("fork").Pool(2).map(abs, [-1, -2]) == [1, 2]
asyncio.run(asyncio.sleep(0.001)); os.sched_getaffinity(0); mmap.mmap(-1, 4096); os.urandom(8)
shutil.copytree(d, d + "2"); shutil.copyfile(sys.executable, d + "/py"); os.replace(d + "/py", d + "/py3"); shutil.rmtree(d); os.cpu_count()
print("done")
`

// Programs that behave run to their end in kill mode without a notification.
func TestOrdinaryProgramsLive(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		need string
		args []string
		out  string
	}{
		"python": {"python3", []string{"python3", "-c", python}, "done"},
		"gcc": {"gcc", []string{"sh", "-ec", `printf '#include <stdio.h>\nint main(void){puts("built");return 0;}' >a.c
			gcc -O1 -pthread -fsanitize=undefined a.c -o a; ./a; gcc -static a.c -o b; ./b`}, "built\nbuilt"},
		"git": {"git", []string{"sh", "-ec", `git init -q r; cd r; git config user.email a@b; git config user.name a
			echo x >f; git add f; git commit -qm one; git clone -q . ../c; git gc -q; git log --format=%s`}, "one"},
		"sqlite": {"sqlite3", []string{"sqlite3", "db", "pragma journal_mode=wal; create table t(x); insert into t values(7); select x from t;"}, "wal\n7"},
		"shell": {"tar", []string{"sh", "-ec", `mkdir a; echo x >a/f; cp -a a b; tar czf t.tgz a; tar xzf t.tgz; mv b c; ls -la; find . -name f | xargs sed -i s/x/y/
			sort a/f | uniq -c; du -s . ; df . ; ps; id; stat a/f; dd if=/dev/zero of=z bs=1k count=1; chmod +x a/f; date; uname -a; sleep 0.01; timeout 5 true; echo done`}, "done"},
		"go": {"sh", []string{"sh", "-ec", hosttest.RoleEnv + `=threads exec "$0"`, self}, "done"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(tt.need); err != nil {
				hosttest.Lack(t, "%s: %v", tt.need, err)
			}
			cmd := helper(t, "exec", Options{Kill: true}, tt.args...)
			cmd.Env = append(cmd.Env, "HOME="+cmd.Dir)
			var out, diag bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &diag
			l, wait := start(t, cmd)
			n, err := l.Recv(t.Context())
			if err == nil {
				t.Fatalf("%s made a forbidden call: %+v\n%s%s", name, n, &out, &diag)
			}
			if err != io.EOF {
				t.Fatal(err)
			}
			if err := wait(); err != nil {
				t.Fatalf("%v\n%s%s", err, &out, &diag)
			}
			if got := strings.TrimSpace(out.String()); !strings.HasSuffix(got, tt.out) {
				t.Errorf("it said %q, want %q at the end", got, tt.out)
			}
		})
	}
}

// BenchmarkInstall measures seccomp(2) alone, on a fresh thread each time. On a
// virtual machine with Linux 6.18 and the BPF JIT on, the tree took about 50 µs,
// the plain allow list as a linear chain 300, a filter of one instruction 12.
func BenchmarkInstall(b *testing.B) {
	for _, shape := range []string{"tree", "linear", "floor"} {
		b.Run(shape, func(b *testing.B) {
			out, err := helper(b, "bench", Options{}, shape, strconv.Itoa(b.N)).Output()
			if err != nil {
				b.Fatalf("%v: %s", err, stderr(err))
			}
			ns, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(ns, "ns/install")
			b.ReportMetric(0, "ns/op") // includes the start of the helper
		})
	}
}
