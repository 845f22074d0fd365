// Command attack tries to get out of the wasm backend's sandbox: built as a WASI
// module, it says of each way out whether it led anywhere.
//
//	attack files PATH WORD   # PATH is a file of the host's that holds WORD
//
// Non-goals: hostile bytes (tests make those), and the walls of the backend
// below, which that one's own tests attack.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func main() {
	ways := map[string]func(){"files": files, "worker": worker, "descriptors": descriptors, "many": many}
	ways[os.Args[1]]()
	fmt.Println("end")
}

// files looks for a file of the host's by every path that could lead out of "/".
func files() {
	path, word := os.Args[2], os.Args[3]
	up := strings.Repeat("../", 40)
	ways := []string{
		path, up + path, "/tmp/" + up + path, "/./" + up + path, "//" + path,
		"/proc/1/root" + path, "/proc/self/root/" + up + path, "/proc/self/cwd/" + up + path, "/proc/1/cwd" + path,
	}
	for fd := range 64 {
		for _, who := range []string{"self", "1"} {
			ways = append(ways, fmt.Sprintf("/proc/%s/fd/%d/%s%s", who, fd, up, path), fmt.Sprintf("/proc/%s/fd/%d", who, fd))
		}
	}
	for i, to := range []string{path, up + path, "/proc/1/root" + path, "/proc/self/root" + path} {
		link := fmt.Sprint("/tmp/link", i)
		if err := os.Symlink(to, link); err == nil {
			ways = append(ways, link)
		}
	}
	for _, dir := range []string{"/", up, "/proc/1/root", "/proc/self/cwd/" + up} {
		link := fmt.Sprint("/tmp/dir", len(ways))
		if err := os.Symlink(dir, link); err == nil {
			ways = append(ways, link+path)
		}
	}
	for _, way := range ways {
		if strings.Contains(way, "/fd/0") || strings.HasSuffix(way, "/fd/1") || strings.HasSuffix(way, "/fd/2") {
			continue // its own streams, which it may read, and wait for
		}
		if b, err := os.ReadFile(way); err == nil && strings.Contains(string(b), word) {
			fmt.Println("read by", way)
		}
		if os.WriteFile(way, []byte("changed"), 0o644) == nil && !strings.HasPrefix(way, "/proc/self/fd/") {
			fmt.Println("wrote by", way)
		}
	}
}

// worker tries to change the process that runs it.
func worker() {
	for _, pid := range []string{"self", "1", "2"} {
		for _, name := range []string{"mem", "exe", "oom_score_adj", "clear_refs", "comm", "attr/current", "coredump_filter", "setgroups", "uid_map", "timerslack_ns"} {
			if f, err := os.OpenFile("/proc/"+pid+"/"+name, os.O_WRONLY, 0); err == nil {
				fmt.Println("may write", pid, name)
				f.Close()
			}
		}
	}
	for _, path := range []string{"/bin/new", "/etc/passwd", "/dev/mem", "/sys/kernel/mm/ksm/run", "/run/sandboxd/peer.sock"} {
		if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755); err == nil {
			fmt.Println("may write", path)
			f.Close()
		}
	}
}

// descriptors tries numbers that it was not given.
func descriptors() {
	var b [1]byte
	for fd := 4; fd < 4096; fd++ {
		_, rerr := syscall.Read(fd, b[:])
		_, werr := syscall.Write(fd, b[:])
		if rerr != syscall.EBADF || werr != syscall.EBADF {
			fmt.Println("there is", fd, rerr, werr)
		}
	}
}

// many opens files until it may not.
func many() {
	for n := 0; ; n++ {
		if _, err := os.Open("/etc/passwd"); err != nil {
			fmt.Println("refused", n > 8 && n < 256)
			return
		}
	}
}
