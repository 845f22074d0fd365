package doctor

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandboxd/spawn"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")
	record = flag.String("record", "", "write what is observed of this host to testdata/recorded/`NAME`.json")
)

// good is a host on which everything works, for root.
func good() *Facts {
	f := &Facts{
		Kernel: "6.12.41-amd64", UID: 0, Privileged: true, CgroupMode: "v2", Cgroups: Answers{}, Landlock: 6,
		Seccomp: []string{"kill_process", "kill_thread", "trap", "errno", "user_notif", "trace", "log", "allow"},
		Nofile:  524288, Nproc: math.MaxUint64, UserNS: 63000,
		Backends: map[string]Answers{"native": {}, "process": {}},
	}
	for _, c := range controllers {
		f.Cgroups[c.String()] = Answer{}
	}
	for feature := range whys {
		if feature != spawn.WASI && feature != spawn.Fuel { // which are wasm's
			f.Backends["native"][string(feature)] = Answer{}
		}
	}
	for _, feature := range []spawn.Feature{spawn.NoNewPrivs, spawn.NoCapabilities, spawn.Filter, spawn.Landlock, spawn.Terminal, spawn.KillWhole} {
		f.Backends["process"][string(feature)] = Answer{}
	}
	return f
}

// fail makes the native backend fail as a whole, as its probe does.
func fail(f *Facts, observed, remedy string) {
	for feature, a := range f.Backends["native"] {
		if a.ok() && feature != string(spawn.Landlock) && feature != string(spawn.TwoIDs) {
			f.Backends["native"][feature] = Answer{Observed: observed, Remedy: remedy}
		}
	}
	untried := Answer{Observed: "not tried: the native backend does not work", Untried: true}
	f.Overlay, f.Idmap, f.Notify, f.Clocks, f.SwapLimit = untried, untried, untried, untried, untried
}

// ordinary makes it an ordinary user's, without a cgroup of its own.
func ordinary(f *Facts) {
	f.UID, f.Privileged, f.Nproc = 1000, false, 63000
	for c := range f.Cgroups {
		f.Cgroups[c] = Answer{Observed: "/sys/fs/cgroup/user.slice is not writable: permission denied", Remedy: "run as root, or start the program in a cgroup that an administrator has given to this user"}
	}
}

// hosts are profiles of hosts, written by hand; what doctor says of each is a golden file.
var hosts = map[string]struct {
	works bool
	is    func(*Facts)
}{
	"root": {true, func(*Facts) {}},
	"user-with-subids": {true, func(f *Facts) {
		ordinary(f)
		f.SubIDs = SubIDs{UIDs: 65536, GIDs: 65536}
	}},
	"user-delegated": {true, func(f *Facts) {
		ordinary(f)
		for c := range f.Cgroups {
			f.Cgroups[c] = Answer{}
		}
		f.SubIDs.Lacks = []string{"newuidmap", "newgidmap"}
		f.Backends["native"][string(spawn.TwoIDs)] = Answer{Observed: "no subordinate ids for this user, or newuidmap is not installed", Remedy: "install the package uidmap"}
	}},
	"ubuntu-24.04-user": {false, func(f *Facts) {
		ordinary(f)
		f.Kernel, f.Landlock = "6.8.0-31-generic", 4
		fail(f, "clone: permission denied; /proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1", "install an AppArmor profile that allows userns for sandboxd")
	}},
	"docker": {false, func(f *Facts) {
		f.Place, f.Privileged = "a docker container (/.dockerenv exists)", false
		fail(f, "clone: operation not permitted; this is a docker container (/.dockerenv exists)", "docker run --security-opt seccomp=unconfined")
		for c := range f.Cgroups {
			f.Cgroups[c] = Answer{Observed: "/sys/fs/cgroup is not writable: read-only file system", Remedy: "the cgroup mount is read-only, as in most containers: start the container with a writable /sys/fs/cgroup"}
		}
	}},
	"old-kernel": {false, func(f *Facts) {
		f.Kernel, f.CgroupMode, f.Landlock = "4.18.0-553.el8_10.x86_64", "v1", 0
		f.NoLandlock = Answer{Observed: "landlock is not supported by this kernel: it is not built in", Remedy: "boot a kernel of 5.13 or later"}
		f.Backends["native"][string(spawn.Landlock)] = f.NoLandlock
		f.Backends["process"][string(spawn.Landlock)] = f.NoLandlock
		f.Seccomp = []string{"kill_process", "kill_thread", "trap", "errno", "trace", "log", "allow"}
		fail(f, "mount_setattr: function not implemented; the kernel is 4.18.0", "boot a kernel of 5.12 or later")
	}},
	"no-cgroups-swap": {true, func(f *Facts) {
		f.CgroupMode, f.SwapBytes = "v1", 2<<30
		f.SwapLimit = Answer{Observed: "the host swaps but its kernel does not count it", Remedy: "boot with swapaccount=1, switch swap off, or ask for MemorySwap -1"}
		f.Cgroups["pids"] = Answer{Observed: "this kernel has no such controller", Remedy: "boot a kernel with CONFIG_CGROUP_PIDS"}
		f.Idmap = Answer{Observed: "idmap: invalid argument"}
		f.Overlay = Answer{Observed: "not tried: mapping the ids of a directory failed first", Untried: true}
		f.Nofile, f.UserNS = 256, 10
	}},
	"no-lease-no-memfd": {false, func(f *Facts) {
		f.Lease = Answer{Observed: "lease: directory /run/sandboxd is a link or a file: remove it"}
		f.Memfd = Answer{Observed: "permission denied"}
		f.Backends = map[string]Answers{}
		f.UserNS = 0
	}},
}

func TestHosts(t *testing.T) {
	for name, h := range hosts {
		t.Run(name, func(t *testing.T) {
			f := good()
			h.is(f)
			r := Judge(f)
			if r.Works != h.works {
				t.Errorf("works is %v, want %v", r.Works, h.works)
			}
			compare(t, r, filepath.Join("testdata", name+".txt"))
		})
	}
}

// Recorded are profiles of hosts that there are: what Observe saw there.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/recorded/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded profiles: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		var f Facts
		if err := d.Decode(&f); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		compare(t, Judge(&f), strings.TrimSuffix(file, ".json")+".txt")
	}
}

// compare holds a report to a golden file.
func compare(t *testing.T, r *Report, golden string) {
	t.Helper()
	var got bytes.Buffer
	if err := Text(&got, r); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s: got\n%swant\n%s", golden, &got, want)
	}
}

// Whatever is not well says why it matters and what it takes away; names are unique.
func TestFindingsAreComplete(t *testing.T) {
	for name, h := range hosts {
		f := good()
		h.is(f)
		seen := map[string]bool{}
		for _, x := range Judge(f).Findings {
			if seen[x.Name] {
				t.Errorf("%s: two findings are called %s", name, x.Name)
			}
			seen[x.Name] = true
			if x.Observed == "" || x.Why == "" {
				t.Errorf("%s: %s lacks words: %+v", name, x.Name, x)
			}
			if (x.State == Weak || x.State == Missing) && len(x.Unlocks) == 0 {
				t.Errorf("%s: %s is %s, and it is not said what that takes away", name, x.Name, x.State)
			}
			if x.State == OK && x.Fix != "" {
				t.Errorf("%s: %s is ok and has a fix", name, x.Name)
			}
		}
	}
}

// Any required feature that fails makes the default backend not work; an optional one does not.
func TestWorks(t *testing.T) {
	for feature := range whys {
		f := good()
		f.Backends["native"][string(feature)] = Answer{Observed: "no"}
		want := false
		for _, o := range spawn.Optional {
			want = want || o == feature
		}
		if got := Judge(f).Works; got != want {
			t.Errorf("without %s: works is %v, want %v", feature, got, want)
		}
	}
}

func TestVersion(t *testing.T) {
	for release, want := range map[string][2]int{
		"6.18.44": {6, 18}, "5.4": {5, 4}, "6.8.0-31-generic": {6, 8}, "5.15-rc1": {5, 15}, "": {}, "x.y": {}, "6": {6, 0},
	} {
		if major, minor := version(release); [2]int{major, minor} != want {
			t.Errorf("%q: %d.%d, want %v", release, major, minor, want)
		}
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := JSON(&b, Judge(good())); err != nil {
		t.Fatal(err)
	}
	var got Report
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Schema != Schema || !got.Works || len(got.Findings) < 30 {
		t.Errorf("got %+v", got)
	}
}

// On whatever host this runs, looking is complete and leaves no file behind.
func TestObserve(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	f := Observe(t.Context())
	if f.Kernel == "" || len(f.Cgroups) != len(controllers) {
		t.Errorf("facts are incomplete: %+v", f)
	}
	if !f.works(defaultBackend) && os.Getenv("SANDBOXD_MUST_WORK") == "1" {
		t.Errorf("the default backend does not work here: %+v", f.Backends)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if *record != "" {
		writeProfile(t, f)
	}
}

// writeProfile leaves out which cgroup the test ran in.
func writeProfile(t *testing.T, f *Facts) {
	t.Helper()
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text("/proc/self/cgroup") + "\n") {
		own := line[strings.LastIndex(line, ":")+1 : len(line)-1]
		if own != "/" {
			b = bytes.ReplaceAll(b, []byte(own), []byte("/own"))
		}
	}
	if err := os.WriteFile(filepath.Join("testdata/recorded", *record+".json"), append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
