package launcher_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

func TestRunReturnsDescriptors(t *testing.T) {
	l := watched(t)
	fds, err := l.Run([]plan.Step{
		step(plan.OpenFile, []uint64{plan.SlotScratch, unix.O_RDONLY}, "/proc/self/ns/uts"),
		step(plan.OpenFile, []uint64{plan.SlotListen, unix.O_RDONLY}, "/etc/passwd"),
	})
	if err != nil || len(fds) != 2 {
		t.Fatalf("%v, %v", fds, err)
	}
	defer nothing(fds)
	for i, want := range []string{"/etc/passwd", "uts:["} {
		link, _ := os.Readlink(fmt.Sprint("/proc/self/fd/", fds[i]))
		flags, err := unix.FcntlInt(uintptr(fds[i]), unix.F_GETFD, 0)
		if !strings.HasPrefix(link, want) || err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d is %s, flags %#x, %v", i, link, flags, err)
		}
	}
	if own, _ := os.Readlink("/proc/self/ns/uts"); own == "" {
		t.Error("no namespace of our own to compare with")
	} else if link, _ := os.Readlink(fmt.Sprint("/proc/self/fd/", fds[1])); link == own {
		t.Error("the launcher lives in our namespace")
	}
}

func TestRunNamesTheStep(t *testing.T) {
	l := watched(t)
	_, err := l.Run([]plan.Step{step(plan.Umask, []uint64{0}), step(plan.Chdir, nil, "/no/such"), step(plan.Umask, []uint64{0})})
	wantStep(t, err, "setup", plan.Chdir, 1, unix.ENOENT)
	if err != nil && !strings.Contains(err.Error(), `chdir path="/no/such"`) {
		t.Errorf("no words in %v", err)
	}
	if _, err := l.Run(nil); err != nil {
		t.Errorf("an empty plan: %v", err)
	}
	many := slices.Repeat([]plan.Step{step(plan.Umask, []uint64{0o22})}, 5000)
	if _, err := l.Run(append(many, step(plan.Chdir, nil, "/no/such"))); err == nil {
		t.Error("the last of many steps failed unseen")
	} else {
		wantStep(t, err, "setup", plan.Chdir, 5000, unix.ENOENT)
	}
	if _, err := l.Run([]plan.Step{step(plan.Hostname, nil, strings.Repeat("x", 131072))}); err == nil || !strings.Contains(err.Error(), "fewer mounts") {
		t.Errorf("a plan that fits no request: %v", err)
	}
}

// Every step of a child that fails before it has connected is known by its exit.
func TestSpawnNamesTheStep(t *testing.T) {
	l := watched(t)
	bad := step(plan.Chdir, nil, "/no/such")
	_, err := l.Spawn(context.Background(), launcher.Spawn{CloneFlags: namespaces, IntoCgroup: -1, Prepare: []plan.Step{step(plan.Umask, []uint64{0}), bad}})
	wantStep(t, err, "prepare", plan.Chdir, 1, unix.ENOENT)
	_, err = l.Spawn(context.Background(), launcher.Spawn{CloneFlags: unix.CLONE_NEWNS | unix.CLONE_FS, IntoCgroup: -1})
	wantStep(t, err, "prepare", 0, 0, unix.EINVAL)
	for i := range 4 {
		steps := append(slices.Repeat([]plan.Step{step(plan.Umask, []uint64{0})}, i), bad)
		c := spawned(t, l, launcher.Spawn{CloneFlags: namespaces, IntoCgroup: -1, Before: steps})
		e, err := exit(t, c)
		if err != nil || e.Fail == nil || e.Status.ExitStatus() != 125 {
			t.Fatalf("%+v, %v", e, err)
		}
		wantStep(t, e.Fail, "before", plan.Chdir, i, unix.ENOENT)
		release(t, c)
	}
	if waiting, live := l.Count(); waiting+live != 0 {
		t.Errorf("%d requests wait, %d children live", waiting, live)
	}
}

// Where the id maps cannot be written, the child does not run on without them.
func TestMapsRefused(t *testing.T) {
	l := watched(t)
	for _, maps := range [][]launcher.IDMap{
		{{Inside: 0, Outside: 0, Count: 0}},
		{{Inside: 0, Outside: 0, Count: 1}, {Inside: 0, Outside: 1, Count: 1}},
	} {
		c := spawned(t, l, launcher.Spawn{
			CloneFlags: namespaces | unix.CLONE_NEWUSER, IntoCgroup: -1, UIDs: maps,
			Before: []plan.Step{step(plan.Sync, nil), step(plan.Chdir, nil, "/no/such")},
		})
		e, err := exit(t, c)
		if err != nil || e.Fail == nil {
			t.Fatalf("%+v, %v", e, err)
		}
		if e.Fail.Step != plan.Sync || e.Fail.Errno == 0 || e.Fail.Section != "before" {
			t.Errorf("%v: got %v, want the step at which the child waits for its maps", maps, e.Fail)
		}
		release(t, c)
	}
}

// A socket's name is gone when the spawn failed or the child is dead.
func TestSocketNames(t *testing.T) {
	l := watched(t)
	dir := os.TempDir()
	name := socket(dir)
	if len(name) > 107 { // unix(7)
		t.Fatalf("%s is too long for this test", name)
	}
	listen := step(plan.Listen, []uint64{plan.SlotListen, 42}, name)
	if _, err := l.Run([]plan.Step{step(plan.MountPrivate, nil)}); err != nil {
		t.Fatal(err)
	}
	_, err := l.Spawn(context.Background(), launcher.Spawn{CloneFlags: namespaces, IntoCgroup: -1, Prepare: []plan.Step{listen, step(plan.Chdir, nil, "/no/such")}})
	wantStep(t, err, "prepare", plan.Chdir, 1, unix.ENOENT)
	if _, err := os.Stat(name); err == nil {
		t.Error("the name of a spawn that failed is left")
	}
	s := parked(dir)
	s.Prepare, s.Before[1].Strs[0] = []plan.Step{listen}, name
	c := spawned(t, l, s)
	if _, err := os.Stat(name); err != nil {
		t.Errorf("while the child lives: %v", err)
	}
	if err := unix.PidfdSendSignal(c.Pidfd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if e, err := exit(t, c); err != nil || e.Status.Signal() != unix.SIGKILL {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("the name of a child that is dead is left")
	}
	release(t, c)
}

func TestConcurrentSpawns(t *testing.T) {
	l := watched(t)
	dir := spawntest.Dir(t)
	var group sync.WaitGroup
	for i := range 32 {
		group.Go(func() {
			for range spawntest.Rounds(2, 100) {
				s := parked(dir)
				if i%4 == 0 { // some fail early, some late
					s.Prepare = append(s.Prepare, step(plan.Chdir, nil, "/no/such"))
				} else if i%4 == 1 {
					s.Before = append([]plan.Step{step(plan.Chdir, nil, "/no/such")}, s.Before...)
				}
				c, err := l.Spawn(context.Background(), s)
				if i%4 == 0 {
					if err == nil {
						t.Error("a spawn that cannot be")
					}
					continue
				}
				if err != nil {
					t.Error(err)
					continue
				}
				if i%4 > 1 {
					if err := unix.PidfdSendSignal(c.Pidfd, unix.SIGKILL, nil, 0); err != nil {
						t.Error(err)
					}
				}
				<-c.Exited()
				e, err := c.Exit()
				if err != nil || i%4 == 1 && (e.Fail == nil || e.Fail.Errno != unix.ENOENT) || i%4 > 1 && !e.Status.Signaled() {
					t.Errorf("spawner %d: %+v, %v", i, e, err)
				}
				release(t, c)
			}
		})
	}
	group.Wait()
	if waiting, live := l.Count(); waiting+live != 0 {
		t.Errorf("%d requests wait, %d children live", waiting, live)
	}
}

// fds lists the descriptors of a launcher in namespaces of its own, whose owner may look.
func fds(t testing.TB, l *launcher.Launcher) []string {
	t.Helper()
	if _, err := l.Run(nil); err != nil { // so that it has done with what it was asked before
		t.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/%d/fd/", l.PID())
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var links []string
	for _, e := range entries {
		if link, err := os.Readlink(dir + e.Name()); err == nil {
			links = append(links, e.Name()+" "+link)
		}
	}
	return links
}

// The launcher does not grow: not by spawns that work, not by those that fail,
// not by descriptors that come with requests.
func TestManySpawnsLeaveNothing(t *testing.T) {
	l := watched(t)
	dir := spawntest.Dir(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	round := func(i int) {
		s := parked(dir)
		s.Files = slices.Repeat([]*os.File{null}, 24)
		switch i % 4 {
		case 0:
			s.Before = s.Before[:1]
			s.Before = append(s.Before, step(plan.Chdir, nil, "/no/such"))
		case 1:
			s.Prepare = append(s.Prepare, step(plan.Chdir, nil, "/no/such"))
		case 2:
			s.IntoCgroup = 3 // not one
		}
		c, err := l.Spawn(context.Background(), s)
		if (err != nil) != (i%4 == 1 || i%4 == 2) {
			t.Fatalf("round %d: %v", i, err)
		}
		if err == nil {
			_ = unix.PidfdSendSignal(c.Pidfd, unix.SIGKILL, nil, 0)
			if _, err := exit(t, c); err != nil {
				t.Fatal(err)
			}
			release(t, c)
		}
		for _, f := range files(t, dir) {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 4 {
		round(i)
	}
	before := fds(t, l)
	for i := range spawntest.Rounds(200, 10000) {
		round(i)
	}
	if after := fds(t, l); !slices.Equal(before, after) {
		t.Errorf("the launcher's descriptors were %q and are %q", before, after)
	}
	if waiting, live := l.Count(); waiting+live != 0 {
		t.Errorf("%d requests wait, %d children live", waiting, live)
	}
}

// A slot holds one descriptor: what was there before is closed.
func TestSlotsAreReused(t *testing.T) {
	l := watched(t)
	before := fds(t, l)
	null := step(plan.OpenFile, []uint64{3, unix.O_RDONLY}, os.DevNull)
	many := slices.Repeat([]plan.Step{null, step(plan.OpenFile, []uint64{20, unix.O_RDONLY}, os.DevNull)}, 8)
	for range 3 {
		if _, err := l.Run(many); err != nil {
			t.Fatal(err)
		}
		_, err := l.Spawn(t.Context(), launcher.Spawn{CloneFlags: namespaces, IntoCgroup: -1, Prepare: append(many, step(plan.Chdir, nil, "/no/such"))})
		if !errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
	}
	if after := fds(t, l); len(after) != len(before)+1 {
		t.Errorf("the launcher's descriptors were %q and are %q; want one more", before, after)
	}
}

// Renames anywhere make the kernel doubt a path with "..": that is no error of the path's.
func TestDotDotWhileOthersRename(t *testing.T) {
	l := watched(t)
	dir := spawntest.Dir(t)
	if err := os.Mkdir(dir+"/a", 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for from, to := dir+"/a", dir+"/b"; ctx.Err() == nil; from, to = to, from {
			if err := os.Rename(from, to); err != nil {
				t.Error(err)
				return
			}
		}
	})
	path := strings.Repeat("/usr/..", 20) + dir + "/made"
	for range spawntest.Rounds(300, 30000) {
		if _, err := l.Run([]plan.Step{step(plan.Mkdir, []uint64{plan.Cwd, 0o755, plan.NoID, plan.NoID, plan.Exist}, path)}); err != nil {
			t.Error(err)
			break
		}
	}
	cancel()
	group.Wait()
}

// A tree taken from below a root comes from below it, whatever its links say.
func TestOpenTreeStaysBelow(t *testing.T) {
	l := watched(t)
	dir, outside := spawntest.Dir(t), spawntest.Dir(t)
	if err := errors.Join(os.Mkdir(dir+"/in", 0o755), os.Symlink(outside, dir+"/abs"), os.Symlink("../"+filepath.Base(outside), dir+"/up"), os.Symlink("/in", dir+"/ok")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{"/in": nil, "/ok": nil, "/..": nil, "/abs": unix.ENOENT, "/up": unix.ENOENT} {
		_, err := l.Run([]plan.Step{
			step(plan.OpenFile, []uint64{3, unix.O_PATH | unix.O_DIRECTORY}, dir),
			step(plan.OpenTree, []uint64{4, 0, 0, 0, 3}, path),
		})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, dir+"/"+e.Name())
	}
	return all
}

func TestTooManyFiles(t *testing.T) {
	l := watched(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, err = l.Run(nil, slices.Repeat([]*os.File{null}, 25)...)
	if err == nil {
		t.Error("25 descriptors fit 24 slots")
	}
	if errors.Is(err, launcher.ErrLost) { // it may end, but then all must know
		done(t, l)
	}
}
