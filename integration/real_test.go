package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox"
	"sandboxd/spawn/spawntest"
)

// Real programs on real input: a sandbox that stops attacks and work alike is of no use.

func TestCompileAndRun(t *testing.T) {
	program(t, "/usr/bin/gcc", "gcc")
	everyone(t, func(t *testing.T, c *caller) {
		const source = `#include <stdio.h>
#include <math.h>
int main(void) { printf("%.3f\n", sqrt(2)); return 11; }`
		r := c.prepare(t, "", "/bin/sh", "-c", "cat > a.c && gcc -O2 -o a a.c -lm && ./a")
		r.Stdin = strings.NewReader(source)
		res := r.run(t)
		if res.want(t, 11, sandbox.Exited); res.stdout != "1.414\n" {
			t.Errorf("stdout: %q", res.stdout)
		}
	})
}

func TestPython(t *testing.T) {
	program(t, "/usr/bin/python3", "python3")
	everyone(t, func(t *testing.T, c *caller) {
		const script = `
import asyncio, concurrent.futures, json, multiprocessing as mp, os, pathlib, sqlite3, socket, subprocess, tempfile, threading, zlib, ssl, ctypes, decimal
def square(x): return x * x
async def chat():
    async def serve(r, w):
        w.write((await r.readline()).upper()); await w.drain(); w.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    r, w = await asyncio.open_connection(*server.sockets[0].getsockname())
    w.write(b"hello\n"); line = await r.readline(); w.close(); server.close()
    return line.decode().strip()
if __name__ == "__main__":
    with mp.get_context("fork").Pool(4) as pool: print(sum(pool.map(square, range(1000))))
    with mp.get_context("spawn").Pool(2) as pool: print(sum(pool.map(abs, range(10))))
    with concurrent.futures.ThreadPoolExecutor(8) as e: print(sum(e.map(square, range(100))))
    print(asyncio.run(chat()))
    with tempfile.NamedTemporaryFile() as f: f.write(b"x" * 100000); f.flush(); print(os.path.getsize(f.name))
    print(subprocess.run(["sort", "-r"], input=b"a\nb\n", capture_output=True, check=True).stdout.split())
    a, b = socket.socketpair(); a.send(b"x"); print(b.recv(1))
    print(len(os.urandom(8)), ssl.create_default_context() is not None, decimal.Decimal(1) / 7)
    m = mp.shared_memory if hasattr(mp, "shared_memory") else __import__("multiprocessing.shared_memory").shared_memory
    s = m.SharedMemory(create=True, size=1 << 20); s.buf[0] = 7; print(s.buf[0]); s.close(); s.unlink()
`
		d := c.dir(t)
		if err := os.WriteFile(filepath.Join(d, "program.py"), []byte(script), 0o644); err != nil {
			t.Fatal(err)
		}
		res := c.run(t, "--timeout "+hosttest.Patience(100).String()+" --mount "+d+":/src", "/usr/bin/python3", "/src/program.py")
		res.want(t, 0, sandbox.Exited)
		const want = "332833500\n45\n328350\nHELLO\n100000\n[b'b', b'a']\nb'x'\n8 True 0.1428571428571428571428571429\n7\n"
		if res.stdout != want {
			t.Errorf("stdout: %q%s", res.stdout, res.tail())
		}
	})
}

// Parts of CPython's own tests: files, processes, threads, polling, terminals' ioctls.
var cpython = []string{
	"test_grammar", "test_json", "test_re", "test_tempfile", "test_mmap", "test_select", "test_epoll", "test_shutil",
	"test_glob", "test_pathlib", "test_fcntl", "test_ioctl", "test_resource", "test_posix", "test_time", "test_threading", "test_fork1", "test_wait4",
}

func TestPythonsOwnTests(t *testing.T) {
	found, _ := filepath.Glob("/usr/lib/python3*/test/test_grammar.py")
	if len(found) == 0 {
		hosttest.Lack(t, "CPython's own tests (Debian package libpython3-testsuite)")
	}
	everyone(t, func(t *testing.T, c *caller) {
		// -w: some of them measure tenths of a second; what fails beside the others runs once more, alone.
		argv := append([]string{"/usr/bin/python3", "-m", "test", "-j0", "-w", "--timeout", fmt.Sprint(hosttest.Patience(90).Seconds())}, cpython...)
		res := c.run(t, "--memory -1 --timeout "+hosttest.Patience(110).String(), argv...)
		if res.want(t, 0, sandbox.Exited); !strings.Contains(res.stdout, "SUCCESS") {
			t.Error(res.tail())
		}
	})
}

func TestSQLite(t *testing.T) {
	program(t, "/usr/bin/sqlite3", "sqlite3")
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		const sql = `PRAGMA journal_mode=WAL; CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT);
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<50000) INSERT INTO t SELECT i, hex(randomblob(16)) FROM n;
			CREATE INDEX v ON t(v); PRAGMA integrity_check; SELECT count(*), max(k) FROM t;`
		r := c.prepare(t, "-i --mount "+d+":/data:rw", "/usr/bin/sqlite3", "/data/db")
		r.Stdin = strings.NewReader(sql)
		res := r.run(t)
		if res.want(t, 0, sandbox.Exited); res.stdout != "wal\nok\n50000|50000\n" {
			t.Errorf("stdout: %q", res.stdout)
		}
		// The database is whole for its owner outside.
		out, err := c.exec("/usr/bin/sqlite3", filepath.Join(d, "db"), "PRAGMA integrity_check; SELECT count(*) FROM t").CombinedOutput()
		if err != nil || string(out) != "ok\n50000\n" {
			t.Errorf("on the host: %q, %v", out, err)
		}
	})
}

func TestPipelineOf100MB(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		res := c.run(t, "--timeout "+hosttest.Patience(110).String(), "/bin/bash", "-o", "pipefail", "-c",
			"yes 0123456789abcde | head -c 100000000 | tee >(wc -c >&2) | gzip -1 | gunzip | sha256sum | cut -c1-16; sleep 0.2")
		res.want(t, 0, sandbox.Exited)
		want, err := c.exec("/bin/bash", "-c", "yes 0123456789abcde | head -c 100000000 | sha256sum | cut -c1-16").Output()
		if err != nil || res.stdout != string(want) || strings.TrimSpace(res.stderr) != "100000000" {
			t.Errorf("%q and %q, want %q (%v)", res.stdout, res.stderr, want, err)
		}
	})
}

// git in a directory of the caller's: what it makes belongs to the caller.
func TestGit(t *testing.T) {
	program(t, "/usr/bin/git", "git")
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		for _, argv := range [][]string{
			{"git", "init", "-q", "-b", "main"}, {"git", "config", "user.email", "a@example.org"}, {"git", "config", "user.name", "a"},
		} {
			cmd := c.exec(argv[0], argv[1:]...)
			cmd.Dir = d
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", argv, err, out)
			}
		}
		const script = `set -e
			for i in $(seq 200); do echo $i > f$i; done
			git add . && git commit -qm one && git checkout -qb side && git rm -q f1 && mv f2 g2 && git add -A && git commit -qm two
			git checkout -q main && git merge -q --no-ff -m merge side && git gc -q && git fsck && git log --oneline | wc -l && git status --porcelain | wc -l`
		res := c.run(t, "--timeout 60s --workdir /repo --mount "+d+":/repo:rw", "/bin/sh", "-c", script)
		if res.want(t, 0, sandbox.Exited); res.stdout != "3\n0\n" {
			t.Errorf("stdout: %q%s", res.stdout, res.tail())
		}
		files := 0
		err := filepath.WalkDir(d, func(p string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			files++
			if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != c.uid || int(st.Gid) != c.uid {
				t.Errorf("%s belongs to %d:%d, want %d", p, st.Uid, st.Gid, c.uid)
			}
			return nil
		})
		if err != nil || files < 200 {
			t.Errorf("%d files, %v", files, err)
		}
		cmd := c.exec("git", "status", "--porcelain")
		cmd.Dir = d
		if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
			t.Errorf("git status on the host: %v: %s", err, out)
		}
	})
}

// As root, a directory of somebody else's lends its owner: new files are theirs.
func TestNewFilesBelongToTheDirectorysOwner(t *testing.T) {
	c := asRoot(t)
	d := (&caller{uid: spawntest.Ordinary}).dir(t)
	if err := os.Chmod(d, 0o700); err != nil {
		t.Fatal(err)
	}
	c.run(t, "--mount "+d+":/data:rw", "/bin/sh", "-c", "echo x > /data/new && mkdir /data/sub && stat -c %u:%g /data").want(t, 0, sandbox.Exited)
	for _, name := range []string{"new", "sub"} {
		st, err := os.Stat(filepath.Join(d, name))
		if err != nil {
			t.Fatal(err)
		}
		if sys := st.Sys().(*syscall.Stat_t); sys.Uid != spawntest.Ordinary || sys.Gid != spawntest.Ordinary {
			t.Errorf("%s belongs to %d:%d, want %d", name, sys.Uid, sys.Gid, spawntest.Ordinary)
		}
	}
}

// Programs in other languages start.
func TestInterpreters(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for path, argv := range map[string][]string{
			"/usr/bin/perl": {"-e", "print 6*7"}, "/usr/bin/awk": {"BEGIN { printf 6*7 }"}, "/usr/bin/python3": {"-c", "print(6*7, end='')"},
			"/bin/bash": {"-c", "printf $((6*7))"},
		} {
			t.Run(filepath.Base(path), func(t *testing.T) {
				program(t, path, filepath.Base(path))
				if res := c.run(t, "", append([]string{path}, argv...)...); res.code != 0 || res.stdout != "42" {
					t.Errorf("exit %d%s", res.code, res.tail())
				}
			})
		}
	})
}
