package rootfs

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is one thing in a root, in the order in which it is made.
type Entry struct {
	Path string // absolute, in the root
	Mode uint32 // type and permissions as in stat(2)

	Text   string // a symlink's text or a file's contents
	Source string // a bind of this host path, read-only; Mode says whether it is a directory
	Device uint64
}

// Identity is who the program is inside.
type Identity struct {
	UID, GID    int
	Hostname    string
	HostNetwork bool // the program uses the host's network, so it needs the host's resolver
}

// Home is the program's home directory: private, writable, counted against the disk limit.
const Home = "/home/sandbox"

// Path is the search path inside, whatever the caller's shell uses.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// systemDirs are the host's directories that the Host root shows. /usr/local
// comes with /usr. Nothing of /home, /root, /var, /srv, /opt or /run is here.
var systemDirs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"}

// systemEtc is an allow list: what programs need of /etc and what holds no
// secret. Everything else there stays outside. Every entry is a mount that each
// spawn copies (about a microsecond), so what programs do without is not here.
var systemEtc = []string{
	"alternatives", "fonts", "ld.so.cache", "localtime", "mime.types", "os-release", "pki/tls/certs", "pki/ca-trust/extracted",
	"protocols", "services", "ssl/certs", "ssl/openssl.cnf",
}

// Skeleton lists what a root of this source needs besides its own contents.
// Device nodes are listed as such; a rootless spawn binds the host's instead.
func Skeleton(s Source, id Identity) []Entry {
	const dir, tmp, link, file = unix.S_IFDIR | 0o755, unix.S_IFDIR | 0o1777, unix.S_IFLNK | 0o777, unix.S_IFREG | 0o644
	own := s.Kind == Dir || s.Kind == Tar // a root of the user's keeps what it has
	var e []Entry
	add := func(x Entry) { e = append(e, x) }
	for _, d := range []string{"/proc", "/dev", "/dev/pts", "/dev/shm", "/etc", "/home", Home, "/run", "/run/sandboxd", "/run/sandboxd/empty", "/run/sandboxd/s", "/var"} {
		add(Entry{Path: d, Mode: dir})
	}
	add(Entry{Path: "/tmp", Mode: tmp})
	add(Entry{Path: "/run/sandboxd/peer.sock", Mode: unix.S_IFREG | 0o600})
	for _, d := range devices {
		add(Entry{Path: "/dev/" + d.name, Mode: unix.S_IFCHR | 0o666, Device: unix.Mkdev(d.major, d.minor)})
	}
	for _, l := range [][2]string{
		{"ptmx", "pts/ptmx"}, {"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
	} {
		add(Entry{Path: "/dev/" + l[0], Mode: link, Text: l[1]})
	}
	if own {
		return e
	}
	add(Entry{Path: "/var/tmp", Mode: link, Text: "../tmp"})
	for _, f := range etcFiles(id) {
		add(Entry{Path: "/etc/" + f[0], Mode: file, Text: f[1]})
	}
	if s.Kind == Host {
		e = append(e, hostEntries(id.HostNetwork)...)
	}
	return e
}

// devices are harmless: no state, no data of the host.
var devices = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// etcFiles are written anew, so that nothing of the host's users shows.
func etcFiles(id Identity) [][2]string {
	passwd, group := "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n", "root:x:0:\nnogroup:x:65534:\n"
	switch id.UID {
	case 0:
		passwd = strings.Replace(passwd, "root:/root:/usr/sbin/nologin", "root:"+Home+":/bin/sh", 1)
	case 65534:
	default:
		passwd += fmt.Sprintf("sandbox:x:%d:%d:sandbox:%s:/bin/sh\n", id.UID, id.GID, Home)
	}
	if id.GID != 0 && id.GID != 65534 {
		group += fmt.Sprintf("sandbox:x:%d:\n", id.GID)
	}
	return [][2]string{
		{"passwd", passwd},
		{"group", group},
		{"hosts", "127.0.0.1 localhost " + id.Hostname + "\n::1 localhost\n"},
		{"hostname", id.Hostname + "\n"},
		{"nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
	}
}

// SystemDirs are the system directories that exist here, for a backend without a root of its own.
func SystemDirs() []string { return existing("", systemDirs) }

// SystemEtc is what of /etc a program may read there; all of it exists.
func SystemEtc() []string {
	return existing("/etc/", slices.Concat(systemEtc, []string{"passwd", "group", "hosts", "nsswitch.conf", "resolv.conf"}))
}

func existing(prefix string, names []string) (found []string) {
	for _, n := range names {
		if real, err := filepath.EvalSymlinks(prefix + n); err == nil && !slices.Contains(found, real) {
			found = append(found, real)
		}
	}
	return found
}

// hostEntries are the binds and links of the Host root that exist here.
func hostEntries(network bool) []Entry {
	var e []Entry
	made := map[string]bool{"/": true, "/etc": true}
	bind := func(p string) {
		var st, target unix.Stat_t
		if unix.Lstat(p, &st) != nil {
			return
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK && !strings.HasPrefix(p, "/etc/") {
			if text, err := os.Readlink(p); err == nil {
				e = append(e, Entry{Path: p, Mode: st.Mode, Text: text})
			}
			return
		}
		if unix.Stat(p, &target) != nil {
			return // a dangling link
		}
		var up []string
		for d := path.Dir(p); !made[d]; d = path.Dir(d) {
			made[d] = true
			up = append(up, d)
		}
		for _, u := range slices.Backward(up) {
			e = append(e, Entry{Path: u, Mode: unix.S_IFDIR | 0o755})
		}
		e = append(e, Entry{Path: p, Mode: target.Mode & unix.S_IFMT, Source: p})
	}
	for _, d := range systemDirs {
		bind(d)
	}
	for _, f := range systemEtc {
		bind("/etc/" + f)
	}
	if network {
		bind("/etc/resolv.conf")
	}
	// Java keeps its settings in versioned directories; listing /etc is not free, so only hosts with Java pay.
	if _, err := os.Stat("/usr/lib/jvm"); err == nil {
		found, _ := filepath.Glob("/etc/java-*") // fails on a bad pattern only
		for _, f := range found {
			bind(f)
		}
	}
	return e
}
