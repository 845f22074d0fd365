package gvisor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// guest is one start: an actor whose program is runsc, and what runs on that.
type guest struct {
	id      spawn.Identity
	version string
	outer   *spawn.Request
	before  []plan.Step // of the init on gVisor
	record  *os.File    // in which the init tells of a step that failed before it could say so
	said    *os.File    // what runsc writes
	files   []*os.File  // to close
}

// What runsc keeps open, from spawn.GuestFD on, and the descriptor that it becomes in the guest. The init expects
// its image, record and plan as 3 to 5 (launch.c), and then what it hands on.
const firstInGuest = 3

// in is r as the init in the guest sees it.
func in(r *spawn.Request) *spawn.Request {
	q := *r
	q.Host, q.Landlock, q.Notify, q.TimeNS, q.Inspect = nil, false, false, false, nil
	q.Tasks, q.Cgroup, q.Netns, q.Guest = nil, nil, nil, nil
	return &q
}

// before is what the init does in the guest, up to the program.
func before(r *spawn.Request, id spawn.Identity) ([]plan.Step, error) {
	var s []plan.Step
	add := func(k plan.Kind, strs ...string) { s = append(s, plan.Step{Kind: k, Strs: strs}) }
	if r.Affinity != nil {
		add(plan.Affinity, string(r.Affinity))
	}
	add(plan.Undumpable)
	s = append(s, id.Connect(spawn.DefaultSocket))
	confine, err := spawn.Confine(r, false)
	s = append(s, confine...)
	add(plan.Welcome)
	return s, err
}

// memory is a file in memory that holds b.
func (g *guest) memory(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	g.files = append(g.files, f)
	_, err = f.Write(b)
	return f, err
}

// image opens r.Exe for reading: gVisor imports nothing that is not a file, nor one that is only named.
func (g *guest) image(r *spawn.Request) error {
	if r.Exe == nil {
		return nil
	}
	f, err := spawn.OpenExe(r)
	if err != nil {
		return err
	}
	g.files, r.Exe = append(g.files, f), f
	return nil
}

// prepare fills g for r.
func (g *guest) prepare(r *spawn.Request, runsc, image *os.File) error {
	inner := in(r)
	err := g.image(inner)
	if err != nil {
		return err
	}
	if g.before, err = before(inner, g.id); err != nil {
		return err
	}
	text, err := plan.Append(nil, g.before)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	g.files = append(g.files, null)
	steps, err1 := g.memory("plan", text)
	record, err2 := g.memory("record", make([]byte, os.Getpagesize()))
	said, err3 := g.memory("runsc", nil)
	config, err4 := bundle(r)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	g.record, g.said = record, said
	q := *r
	q.Exe, q.Stdio, q.Terminal = runsc, [3]*os.File{null, said, said}, nil
	q.Filter, q.Notify, q.Landlock, q.Rlimits, q.Umask, q.Dir = nil, false, false, nil, 0, "/"
	q.TimeNS = false // gVisor's clocks start at zero by themselves
	q.Peer = true
	q.Guest = &spawn.Guest{
		Files: []spawn.GuestFile{{Name: "config.json", Text: config}},
		Keep:  append([]*os.File{image, record, steps}, spawn.Files(inner)...),
	}
	q.Argv, q.Env = argv(r, len(q.Guest.Keep)), nil
	g.outer = &q
	return nil
}

func (g *guest) close() {
	for _, f := range g.files {
		f.Close()
	}
}

// writable are the places of an actor that may be written to: one file system, with one limit.
var writable = []string{"/tmp", "/dev/shm", rootfs.Home}
