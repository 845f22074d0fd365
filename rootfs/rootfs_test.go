package rootfs

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	dir := t.TempDir()
	tar := filepath.Join(dir, "root.tar")
	if err := os.WriteFile(tar, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]Source{
		"": {Kind: Host}, "host": {Kind: Host}, "scratch": {Kind: Scratch}, dir: {Kind: Dir, Path: dir}, dir + "/": {Kind: Dir, Path: dir}, tar: {Kind: Tar, Path: tar},
	} {
		if got, err := Parse(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	t.Chdir(dir)
	if got, err := Parse("root.tar"); err != nil || got.Kind != Tar || !path.IsAbs(got.Path) {
		t.Errorf("a relative path: %+v, %v", got, err)
	}
	for _, in := range []string{"nowhere", "/dev/null", dir + "/x\x00y"} {
		if got, err := Parse(in); err == nil || !strings.Contains(err.Error(), "want host, scratch, a directory or a tar archive") {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

func TestParseMount(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Symlink("/proc", dir+"/proc"), os.Symlink("/sys/kernel", dir+"/sys")); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		dir: "", dir + "/proc": "host's processes", dir + "/proc/self": "host's processes", "/sys": "lies in /sys", dir + "/sys": "lies in /sys", dir + "/none": "no such file",
	} {
		if err := (Source{Kind: Dir, Path: p}).Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("root %s: %v, want %q", p, err, want)
		}
	}
	for in, want := range map[string]Mount{
		dir + ":/d": {Source: dir, Target: "/d"}, dir + ":/d/:ro": {Source: dir, Target: "/d"}, dir + ":/a/../d:rw": {Source: dir, Target: "/d", Writable: true},
		dir + ":/tmpfoo": {Source: dir, Target: "/tmpfoo"}, dir + ":/devices": {Source: dir, Target: "/devices"},
	} {
		if got, err := ParseMount(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", ":", dir, dir + ":", ":/d", dir + ":d", dir + ":/", dir + ":/..", dir + ":/d:", dir + ":/d:RW", dir + ":/d:rw:x", dir + "/none:/d",
		dir + ":/run", dir + ":/home", dir + ":/proc", dir + ":/dev/x", dir + ":/sys", dir + ":/run/sandboxd/peer.sock", dir + ":/x/../proc", dir + ":/tmp/x", dir + ":" + Home + "/x", dir + ":/d\x00",
		"/proc:/d", "/proc/self/net:/d", "/sys:/d", "/sys/kernel:/d:rw", dir + "/proc:/d", dir + "/sys:/d",
	} {
		if got, err := ParseMount(in); !errors.Is(err, ErrMount) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

// Whatever the root is: each thing once, after the directory that it lies in; of the host only what is on the lists.
func TestSkeleton(t *testing.T) {
	for _, kind := range []Kind{Host, Scratch, Dir, Tar} {
		for _, id := range []Identity{{}, {UID: 1000, GID: 100, Hostname: "box", HostNetwork: true}, {UID: 65534, GID: 65534}} {
			made := map[string]Entry{"/": {}}
			for _, e := range Skeleton(Source{Kind: kind, Path: "/x"}, id) {
				if _, ok := made[path.Dir(e.Path)]; !ok || made[e.Path].Path != "" {
					t.Errorf("%v: %+v comes twice, or before the directory that it lies in", kind, e)
				}
				made[e.Path] = e
				listed := slices.Contains(systemDirs, e.Source) || slices.Contains(systemEtc, strings.TrimPrefix(e.Source, "/etc/")) || strings.HasPrefix(e.Source, "/etc/java-")
				if e.Source != "" && (kind != Host || !listed && (e.Source != "/etc/resolv.conf" || !id.HostNetwork)) {
					t.Errorf("%v shows the host's %s", kind, e.Source)
				}
			}
			_, passwd := made["/etc/passwd"]
			if own := kind == Dir || kind == Tar; own == passwd {
				t.Errorf("%v: an /etc/passwd of ours: %v", kind, passwd)
			} else if own {
				continue
			}
			for file, want := range map[string]int{"passwd": id.UID, "group": id.GID} {
				var named int
				for line := range strings.Lines(made["/etc/"+file].Text) {
					if f := strings.Split(line, ":"); f[2] == strconv.Itoa(want) {
						named++
					}
				}
				if named != 1 {
					t.Errorf("%v, %+v: %d lines of %s name %d:\n%s", kind, id, named, file, want, made["/etc/"+file].Text)
				}
			}
			if got := made["/etc/hostname"].Text; got != id.Hostname+"\n" {
				t.Errorf("%v: host name %q, want %q", kind, got, id.Hostname)
			}
		}
	}
}

// What a backend without a root of its own lets programs read is there, and names no secret.
func TestSystem(t *testing.T) {
	if len(SystemDirs()) == 0 || len(SystemEtc()) == 0 {
		t.Errorf("nothing: %q, %q", SystemDirs(), SystemEtc())
	}
	for _, p := range slices.Concat(SystemDirs(), SystemEtc()) {
		if real, err := filepath.EvalSymlinks(p); err != nil || real != p {
			t.Errorf("%s is %q, %v", p, real, err)
		}
		if slices.Contains([]string{"/", "/etc", "/home", "/root", "/var", "/run", "/etc/shadow", "/etc/gshadow", "/etc/sudoers"}, p) {
			t.Errorf("programs may read %s", p)
		}
	}
}

// A library's caller writes a Mount as it likes: no spelling gets around the rules.
func TestMountCheck(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/proc", link); err != nil {
		t.Fatal(err)
	}
	for _, m := range []Mount{
		{dir, "//proc", false},
		{dir, "/./dev", false},
		{dir, "/x/../proc", false},
		{dir, "/..", false},
		{dir, "//", false},
		{dir, "/d/", false},
		{dir, "", false},
		{"/./proc", "/d", false},
		{"/proc/self", "/d", false},
		{link, "/d", false},
		{link + "/self/status", "/d", false},
		{"", "/d", false},
		{dir + "/none", "/d", false},
	} {
		if err := m.Check(); !errors.Is(err, ErrMount) {
			t.Errorf("%+v: %v", m, err)
		}
	}
	if err := (Mount{dir, "/d", false}).Check(); err != nil {
		t.Error(err)
	}
}

// What is accepted names one absolute place outside of all that the sandbox makes itself.
func FuzzParseMount(f *testing.F) {
	for _, s := range []string{"/etc:/x", "/etc:/x:rw", "/:/..//proc", ".:/d:ro", "/etc:/dev/../sys/x", "a:b:c:d", "/etc:/\x00", "/etc:/proc\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMount(s)
		if err != nil {
			if !errors.Is(err, ErrMount) {
				t.Fatalf("%q: %v is no ErrMount", s, err)
			}
			return
		}
		if m.Target != path.Clean(m.Target) || !path.IsAbs(m.Target) || !path.IsAbs(m.Source) || m.Target == "/" || strings.ContainsRune(m.Source+m.Target, 0) {
			t.Fatalf("%q was read as %+v", s, m)
		}
		for _, r := range reserved {
			if strings.HasPrefix(m.Target+"/", r+"/") || strings.HasPrefix(r+"/", m.Target+"/") {
				t.Fatalf("%q was read as %+v, which meets %s", s, m, r)
			}
		}
		if m.Writable != strings.HasSuffix(s, ":rw") {
			t.Fatalf("%q was read as %+v", s, m)
		}
		if again, err := ParseMount(m.Source + ":" + m.Target); strings.Count(m.Source+m.Target, ":") == 0 && (err != nil || again.Target != m.Target) {
			t.Fatalf("%+v does not read again: %+v, %v", m, again, err)
		}
	})
}
