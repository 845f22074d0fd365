package microvm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/native"
	"sandboxd/vm/guest"
	"sandboxd/vm/initramfs"
)

// kernelWords leave out what takes an eighth of an emulated boot's CPU time:
// self-tests, a keyboard, the clock's doubts of itself, walls that native does not use.
var kernelWords = []string{"cryptomgr.notests", "i8042.noaux", "i8042.nokbd", "tsc=reliable", "no_timer_check", "random.trust_cpu=on", "lsm=landlock,yama"}

func packInto(f *os.File, j *job, exe *os.File) error {
	w := initramfs.NewWriter(f)
	guest.AddInit(w, "/proc/self/exe")
	if j.Run.Exe != 0 {
		w.Add(initramfs.File{Path: exeFile, Mode: j.Run.Exe, Source: "/proc/self/fd/" + strconv.Itoa(int(exe.Fd()))})
	}
	var err error
	if j.Run.Modules, err = guest.AddModules(w, j.Modules, modules...); err != nil {
		return err
	}
	b, err := json.Marshal(j.Run)
	if err != nil {
		return err
	}
	w.Add(initramfs.File{Path: jobFile, Mode: 0o600, Data: b})
	j.Machine.Append = append(slices.Clone(kernelWords), guest.Command(j.Guest...)...)
	return w.Close()
}

// Guest is the guest's init. It returns only where it is not process 1, which
// ends with the machine.
func Guest() error {
	if os.Getpid() != 1 {
		return errors.New("vm microvm: this is what a guest's kernel starts, as process 1; see sandboxd run --backend microvm")
	}
	if err := play(); err != nil {
		fmt.Fprintln(os.Stderr, "vm guest:", err) // the console
	}
	return guest.End()
}

func play() error {
	if err := guest.KernelMounts(); err != nil {
		return err
	}
	b, err := os.ReadFile("/" + jobFile)
	if err != nil {
		return err
	}
	var r run
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("%s: %w", jobFile, err)
	}
	if err := guest.LoadModules(r.Modules); err != nil {
		return err
	}
	control, err := openConn(portControl)
	if err != nil {
		return err
	}
	if err := perform(control, &r); err != nil {
		if e := control.SendJSON(frameFailed, newFailed(err)); e != nil {
			return errors.Join(err, e)
		}
	}
	time.Sleep(time.Minute) // the host ends the machine when it has read everything
	return errors.New("the host did not end the machine")
}

func openConn(name string) (*guest.Conn, error) {
	f, err := guest.OpenPort(name)
	if err != nil {
		return nil, err
	}
	return &guest.Conn{RW: f}, nil
}

// perform runs the program, and says everything about it on control.
func perform(control *guest.Conn, r *run) error {
	if err := furnish(r); err != nil {
		return err
	}
	group, err := cgroup(r.PIDs)
	if err != nil {
		return err
	}
	defer group.Close()
	var ports [3]*guest.Conn
	for i, name := range []string{portIn, portOut, portErr} {
		if ports[i], err = openConn(name); err != nil {
			return err
		}
	}
	if err := control.Send(frameBooted, nil); err != nil {
		return err
	}
	// Whoever boots another machine, because this one took too long, has not said so to this one.
	if k, _, err := control.Receive(); err != nil {
		return err
	} else if k != frameProceed {
		return fmt.Errorf("a frame %q instead of leave to proceed", k)
	}
	q := r.request()
	q.Cgroup = group
	if r.Exe != 0 {
		if q.Exe, err = os.Open("/" + exeFile); err != nil {
			return err
		}
		defer q.Exe.Close()
	}
	var ours [3]*os.File
	for i := range 3 {
		read, write, err := os.Pipe()
		if err != nil {
			return err
		}
		if ours[i], q.Stdio[i] = read, write; i == 0 {
			ours[i], q.Stdio[i] = write, read
		}
		_ = q.Stdio[i].Fd() // blocking, as programs expect
	}
	b := native.New(native.Options{Owned: true})
	p, err := b.Start(context.Background(), q)
	for _, f := range q.Stdio {
		f.Close()
	}
	if err != nil {
		return err
	}
	if err := control.Send(frameStarted, nil); err != nil {
		return err
	}
	go func() {
		for {
			k, body, err := control.Receive()
			if err != nil {
				return
			}
			if k == frameSignal && len(body) == 1 {
				_ = p.Signal(syscall.Signal(body[0]))
			}
		}
	}()
	go input(ports[0], ours[0])
	var outputs sync.WaitGroup
	for i := 1; i < 3; i++ {
		outputs.Go(func() { output(ports[i], ours[i]) })
	}
	if peers, ok := p.(spawn.Peers); ok {
		peer, err := openConn(portPeer)
		if err != nil {
			return err
		}
		go accept(peers, peer)
	}
	exit, err := p.Wait(context.Background())
	if err != nil {
		return err
	}
	e := exited{Status: uint32(exit.Status), Facts: facts(group, p.Scratch())}
	outputs.Wait()
	return control.SendJSON(frameExited, e)
}

// request is the actor as the guest's own native backend starts it.
func (r *run) request() *spawn.Request {
	q := &spawn.Request{
		ID: "guest", Argv: strs(r.Argv), Env: strs(r.Env), Dir: string(r.Dir), UID: r.UID, GID: r.GID,
		Host: &spawn.HostIDs{InitUID: 100000, InitGID: 100000, UID: owner, GID: owner},
		Root: rootfs.Source{Kind: r.Root, Writable: r.Writable}, Scratch: r.Scratch, Hostname: r.Hostname, Alone: true, TimeNS: r.TimeNS,
		Rlimits: r.Rlimits, Umask: r.Umask, Filter: r.Filter, Landlock: r.Landlock, Peer: r.Peer,
	}
	if r.Root == rootfs.Dir || r.Root == rootfs.Tar {
		q.Root.Path = r.RootPath
	}
	for _, m := range r.Mounts {
		q.Mounts = append(q.Mounts, rootfs.Mount{Source: m.Source, Target: string(m.Target), Writable: m.Writable})
	}
	return q
}

// furnish makes the root that native takes its pieces from.
func furnish(r *run) error {
	const root = "/vm/newroot"
	if err := guest.MountAt("/", root, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := guest.Enter(root); err != nil {
		return err
	}
	for _, s := range r.Shares {
		// One attach for all; who may do what is decided by the modes that are seen, and by QEMU.
		options := "trans=virtio,version=9p2000.L,access=any,msize=512000,cache=mmap"
		if s.Fixed {
			options = "trans=virtio,version=9p2000.L,access=any,msize=512000,cache=loose"
		}
		flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
		if !s.Writable {
			flags |= unix.MS_RDONLY
		}
		if err := guest.MountAt(s.Tag, s.At, "9p", flags, options); err != nil {
			return err
		}
	}
	for _, l := range r.Links {
		if err := errors.Join(os.MkdirAll(path.Dir(l[0]), 0o755), os.Symlink(l[1], l[0])); err != nil {
			return err
		}
	}
	for _, l := range r.Rlimits { // the program may have what init may have, and no more
		var have unix.Rlimit
		if err := unix.Getrlimit(l.Resource, &have); err == nil && have.Max < l.Hard {
			_ = unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: have.Cur, Max: l.Hard}) // native says so where it fails
		}
	}
	return nil
}

const groups = "/sys/fs/cgroup"

// cgroup is one for all of the actor: out of memory it dies, and not init.
func cgroup(pids int64) (*os.File, error) {
	if err := guest.MountAt("cgroup2", groups, "cgroup2", guest.Safe, ""); err != nil {
		return nil, err
	}
	available, err := memAvailable()
	if err != nil {
		return nil, err
	}
	const dir, reserve = groups + "/actor", 8 << 20
	if err := os.WriteFile(groups+"/cgroup.subtree_control", []byte("+memory +pids"), 0); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	set := [][2]string{{"memory.max", strconv.FormatInt(max(available-reserve, reserve), 10)}, {"memory.oom.group", "1"}}
	if pids > 0 {
		set = append(set, [2]string{"pids.max", strconv.FormatInt(pids+1, 10)}) // native's init is not the user's
	}
	for _, s := range set {
		if err := os.WriteFile(filepath.Join(dir, s[0]), []byte(s[1]), 0); err != nil {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
	}
	return os.Open(dir)
}

func memAvailable() (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "MemAvailable:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0, errors.New("/proc/meminfo says nothing of MemAvailable")
	}
	kib, err := strconv.ParseInt(f[0], 10, 64)
	return kib << 10, err
}

// facts are what the guest's kernel counted.
func facts(group, scratch *os.File) final {
	count := func(file, name string) int64 {
		b, _ := os.ReadFile(filepath.Join(group.Name(), file)) // what cannot be read was not counted
		for line := range bytes.Lines(b) {
			if k, v, _ := strings.Cut(strings.TrimSpace(string(line)), " "); k == name {
				n, _ := strconv.ParseInt(v, 10, 64)
				return n
			}
		}
		return 0
	}
	f := final{OOMKills: count("memory.events", "oom_kill"), PIDsMax: count("pids.events", "max")}
	var st unix.Statfs_t
	if scratch != nil && unix.Fstatfs(int(scratch.Fd()), &st) == nil {
		f.DiskBytes = int64(st.Blocks-st.Bfree) * st.Bsize
		f.DiskFull = st.Bfree == 0 && st.Blocks > 0 || st.Ffree == 0 && st.Files > 0
	}
	return f
}

// input gives the program what the host sends.
func input(c *guest.Conn, to *os.File) {
	defer to.Close()
	for {
		k, body, err := c.Receive()
		if err != nil || k != frameIn || len(body) == 0 {
			return
		}
		if _, err := to.Write(body); err != nil { // nobody reads it
			_ = c.Send(frameIn, nil)
			return
		}
	}
}

// output sends what the program writes, until nobody is left who could.
func output(c *guest.Conn, from *os.File) {
	go func() {
		if k, _, err := c.Receive(); err == nil && k == frameOut {
			from.Close() // its reader is gone, so the program gets SIGPIPE like anywhere
		}
	}()
	_ = c.SendAll(frameOut, from)
	_ = c.Send(frameOut, nil)
}

// accept carries the connections of the actor's processes to the host.
func accept(peers spawn.Peers, port *guest.Conn) {
	r := &relay{port: port}
	free := make(chan byte, mostLines)
	for n := range byte(mostLines) {
		free <- n
	}
	go func() {
		_ = r.receive(func(number byte) error { return fmt.Errorf("the host connects, as %d", number) })
	}()
	for {
		number := <-free
		s, _, err := peers.Accept(context.Background())
		if err != nil {
			return
		}
		l, _ := r.add(number, s, func() { free <- number })
		if port.Send(frameConnect, []byte{number}) != nil {
			return
		}
		go r.send(number, l)
	}
}
