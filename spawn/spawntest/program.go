package spawntest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
)

// programTests are about what the program gets.
var programTests = []test{
	{"Stdio", "", testStdio},
	{"Argv", "", testArgv},
	{"Env", AnyEnv, testEnv},
	{"BigArgv", "", testBigArgv},
	{"SearchesPath", "", testSearchesPath},
	{"Facts", Process, testFacts},
	{"Descriptors", Process, testDescriptors},
	{"SignalState", Process, testSignalState},
	{"Terminal", Terminal, testTerminal},
}

func testStdio(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.start(t, b, nil, "sh", "-c", "cat; echo fault >&2")
	all := make([]byte, 1<<20)
	for i := range all {
		all[i] = byte(rand.Uint32())
	}
	if _, err := p.stdin.Write(all); err != nil {
		t.Fatal(err)
	}
	p.stdin.Close()
	if out := p.out.all(t); !bytes.Equal([]byte(out), all) {
		t.Errorf("%d bytes went in, %d other bytes came out", len(all), len(out))
	}
	if errOut := p.err.all(t); errOut != "fault\n" {
		t.Errorf("stderr has %q", errOut)
	}
	p.wait()
}

func testArgv(t *testing.T, s *suite) {
	b := s.open(t)
	args := []string{"", " ", "a b", "$HOME", "'\"\\", "-n", "\x01\xff\xfe", "line\nline", "ü", strings.Repeat("x", 5000)}
	out := s.output(t, b, nil, append([]string{"sh", "-c", `printf '%s\0' "$@"`, "sh"}, args...)...)
	if want := strings.Join(args, "\x00") + "\x00"; out != want {
		t.Errorf("arguments %q arrived as %q", want, out)
	}
}

func testEnv(t *testing.T, s *suite) {
	b := s.open(t)
	env := []string{"PATH=/usr/bin:/bin", "EMPTY=", "B=2", "A=1", "B=3", "SP ACE=x y", "UTF=ü\xff", "NL=a\nb", "LONG=" + strings.Repeat("y", 5000), "=odd", "no-equals-sign"}
	out := s.output(t, b, func(r *spawn.Request) { r.Env = env }, "/usr/bin/env", "-0")
	if want := strings.Join(env, "\x00") + "\x00"; out != want {
		t.Errorf("the environment %q arrived as %q", want, out)
	}
	if out = s.output(t, b, func(r *spawn.Request) { r.Env = nil }, "/usr/bin/env", "-0"); out != "" {
		t.Errorf("an empty environment arrived as %q", out)
	}
}

func testBigArgv(t *testing.T, s *suite) {
	b := s.open(t)
	for _, n := range []int{100, 251, 252, 253, 254, 255, 256, 257, 300, 3000} { // around the init's own buffer, and far beyond it
		args := make([]string, n)
		env := []string{"PATH=/usr/bin:/bin"}
		for i := range args {
			args[i] = fmt.Sprintf("%0100d", i)
			if i%3 == 0 {
				env = append(env, fmt.Sprintf("V%d=%0100d", i, i))
			}
		}
		out := s.output(t, b, func(r *spawn.Request) { r.Env = env }, append([]string{"sh", "-c", `printf '%s\0' "$@"; env -0`, "sh"}, args...)...)
		got := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
		if len(got) < n || strings.Join(got[:n], " ") != strings.Join(args, " ") || !strings.Contains(out, env[len(env)-1]+"\x00") {
			t.Errorf("%d arguments and %d variables arrived as %d words", n, len(env), len(got))
		}
	}
	if _, err := s.try(t, bounded(t), b, nil, "true", strings.Repeat("x", 200<<10)); !errors.Is(err, unix.E2BIG) && !(s.foreign() && errors.Is(err, unix.ENAMETOOLONG)) {
		t.Errorf("an argument of 200 KiB, where execve(2) takes 128: %v", err)
	}
	many := make([]string, 40000)
	for i := range many {
		many[i] = strings.Repeat("x", 100)
	}
	if _, err := s.try(t, bounded(t), b, nil, append([]string{"true"}, many...)...); err == nil || !strings.Contains(err.Error(), "arguments") {
		t.Errorf("arguments of 4 MB: %v: want an error that says so", err)
	}
}

func testSearchesPath(t *testing.T, s *suite) {
	b := s.open(t)
	path := func(p string) func(*spawn.Request) {
		return func(r *spawn.Request) { r.Env = []string{"PATH=/shadowed", "PATH=" + p} }
	}
	for _, p := range []string{"/usr/bin:/bin", ":/no/such:/usr/bin:/bin", "/etc/passwd:/bin:/usr/bin:", "/:/bin:/usr/bin"} {
		if out := s.output(t, b, path(p), "echo", "found"); out != "found\n" {
			t.Errorf("PATH=%s: %q", p, out)
		}
	}
	for _, p := range []string{"", ":", "/no/such", strings.Repeat("/x", 5000)} {
		_, err := s.try(t, bounded(t), b, path(p), "echo")
		wantStep(t, err, unix.ENOENT, true)
	}
}

// Identity, directory, umask, resource limits and CPUs are those of the Request.
func testFacts(t *testing.T, s *suite) {
	b := s.open(t)
	var have unix.CPUSet
	if err := unix.SchedGetaffinity(0, &have); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !have.IsSet(cpu) {
		cpu++
	}
	mask := make([]byte, 8*(cpu/64+1))
	mask[cpu/8] = 1 << (cpu % 8)
	var req *spawn.Request
	out := s.output(t, b, func(r *spawn.Request) {
		req = r
		r.Dir, r.Umask, r.Affinity = "/usr", 0o031, mask
		r.Rlimits = []spawn.Rlimit{{Resource: spawn.RlimitNofile, Soft: 61, Hard: 67}, {Resource: spawn.RlimitCore}, {Resource: spawn.RlimitFsize, Soft: 8192, Hard: 8192}}
	}, "sh", "-c", `pwd; umask; ulimit -n; ulimit -Hn; ulimit -c; ulimit -f; nproc; grep -E '^(Uid|Gid|NoNewPrivs|CapEff|CapPrm|CapInh|CapAmb):' /proc/self/status`)
	uid, gid := req.UID, req.GID
	if _, bare := s.lacks[Hidden]; bare { // without namespaces the ids are the host's
		uid, gid = os.Geteuid(), os.Getegid()
		if req.Host != nil {
			uid, gid = req.Host.UID, req.Host.GID
		}
	}
	id := func(name string, n int) string { return fmt.Sprintf("%s:\t%d\t%d\t%d\t%d\n", name, n, n, n, n) }
	var caps strings.Builder
	for _, c := range []string{"CapInh", "CapPrm", "CapEff"} {
		caps.WriteString(c + ":\t0000000000000000\n")
	}
	want := "/usr\n0031\n61\n67\n0\n16\n1\n" + id("Uid", uid) + id("Gid", gid) + caps.String() + "CapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	if out != want {
		t.Errorf("got:\n%swant:\n%s", out, want)
	}
}

// A descriptor of ours that is not close-on-exec goes nowhere.
func testDescriptors(t *testing.T, s *suite) {
	leaky, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(leaky) })
	b := s.open(t)
	out := s.output(t, b, nil, "ls", "/proc/self/fd") // 3 is what ls reads
	if out != "0\n1\n2\n3\n" {
		t.Errorf("the program has the descriptors %q", out)
	}
	p := s.start(t, b, nil, "cat")
	for _, d := range Descendants() {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID))
		if err != nil { // not dumpable, and we are not root
			continue
		}
		for _, fd := range fds {
			if link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", d.PID, fd.Name())); link == "/etc/passwd" {
				t.Errorf("%s has our descriptor as its %s", d.Name, fd.Name())
			}
		}
	}
	p.stdin.Close()
	p.wait()
}

// Nothing of what this process ignores or blocks is inherited.
func testSignalState(t *testing.T, s *suite) {
	Ignore(t, unix.SIGCHLD, unix.SIGPIPE, unix.SIGHUP, unix.SIGTERM)
	b := s.open(t)
	for _, sig := range []syscall.Signal{unix.SIGPIPE, unix.SIGHUP, unix.SIGTERM} {
		if exit := s.start(t, b, nil, "sh", "-c", fmt.Sprintf("kill -%d $$", sig)).wait(); !exit.Status.Signaled() || exit.Status.Signal() != sig {
			t.Errorf("a program that sends itself %v: %+v", sig, exit)
		}
	}
	if s.foreign() { // and a kernel that does not tell
		return
	}
	out := s.output(t, b, nil, "grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status")
	for _, line := range []string{"SigBlk:\t0000000000000000\n", "SigIgn:\t0000000000000000\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("the program has %q", out)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func testTerminal(t *testing.T, s *suite) {
	b := s.open(t)
	terminal := func(r *spawn.Request) {
		r.Stdio, r.Terminal = [3]*os.File{}, &spawn.Winsize{Rows: 33, Cols: 101}
	}
	p := s.stream(t, b, terminal, "sh", "-c", `stty size; test -t 0 && test -t 1 && test -t 2 && echo all; : </dev/tty && echo controls; read x; echo "got $x"; stty size; echo end; exec sleep 1000`)
	master := p.Terminal()
	if master == nil {
		t.Fatal("no terminal")
	}
	seen := make(chan string, 64)
	go func() {
		defer close(seen)
		var text strings.Builder
		for buf := make([]byte, 4096); ; {
			n, err := master.Read(buf)
			if text.WriteString(string(buf[:n])); n > 0 {
				seen <- text.String()
			}
			if err != nil {
				return
			}
		}
	}()
	until := func(want string) {
		t.Helper()
		for end := time.After(deadline); ; {
			select {
			case text, ok := <-seen:
				if strings.HasSuffix(text, want) {
					return
				} else if !ok {
					t.Fatalf("the terminal was closed before it showed %q", want)
				}
			case <-end:
				t.Fatalf("the terminal does not show %q", want)
			}
		}
	}
	until("33 101\r\nall\r\ncontrols\r\n")
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 7, Col: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	until("got hello\r\n7 9\r\nend\r\n")
	if _, err := master.WriteString("\x03"); err != nil { // the interrupt character
		t.Fatal(err)
	}
	if exit := p.wait(); !exit.Status.Signaled() || exit.Status.Signal() != unix.SIGINT {
		t.Errorf("after ^C: %+v", exit)
	}
	for range seen {
	} // ends when the slave has no process any more
}
