// Package sandbox runs programs that must not be trusted, each in a sandbox of
// its own, under hard limits, and tells why each of them ended.
//
//	report, err := sandbox.Exec(ctx, sandbox.Spec{
//		Argv:   []string{"python3", "-c", "print(6*7)"},
//		Limits: sandbox.Limits{Memory: 64 << 20, Timeout: 5 * time.Second},
//		Stdout: os.Stdout,
//	})
//
// A program that runs many actors opens a [Host] once and calls [Host.Start].
//
// Non-goals: images from registries, scheduling over machines, and being a
// boundary against bugs of the host's kernel (see SECURITY.md).
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"sandboxd/namespaces"
	"sandboxd/sandbox/cgroup"
	"sandboxd/sandbox/internal/lease"
	"sandboxd/spawn"
	"sandboxd/spawn/container"
	"sandboxd/spawn/gvisor"
	"sandboxd/spawn/microvm"
	"sandboxd/spawn/native"
	"sandboxd/spawn/process"
	"sandboxd/spawn/wasm"
)

// Host is this process's share of the machine: a lease, which names its host
// ids and its cgroups, and the backends. Safe for concurrent use.
type Host struct {
	one      bool
	lease    *lease.Lease
	cgroups  *cgroup.Host
	tree     *cgroup.Tree
	noCgroup error // why there is no tree
	ids      ids
	backends map[string]spawn.Backend
	looks    bool // it only explains: nothing is started, not to probe either

	probing sync.Mutex
	probed  map[string]error // by backend: why it does not work here

	mu      sync.Mutex
	closed  bool
	next    int
	private bool // privateDir was made
	live    map[*Process]struct{}
}

// Options of a Host. The zero value suits a program that runs many actors.
type Options struct {
	// Only is the one actor that will be started. It then shares the network
	// namespace of its launcher, and the launcher is prepared for it while Open
	// does the rest. Nil: any number.
	Only *Spec
	// Hold, if set, is waited for before anything is made that outlives a
	// killed process until the next start: a command catches signals first.
	Hold <-chan struct{}
	// ContainerHelper is the path of sandboxd-container, which the backend
	// "container" is made of. "": the file of that name beside the running program.
	ContainerHelper string
	// WasmWorker is the path of sandboxd-wasm, which the backend "wasm" runs
	// modules with. "": the file of that name beside the running program.
	WasmWorker string
	// WasmCache is a directory of this user's alone that keeps compiled modules.
	// "": what was compiled is known to this Host only.
	WasmCache string
	// Runsc is the path of gVisor's runsc, which the backend "gvisor" is made of.
	// "": the file of that name beside the running program, else the one in PATH.
	Runsc string
	// VMHelper is the path of sandboxd, built statically: what the backend
	// "microvm" runs beside QEMU and in its guests. "": the file of that name beside
	// the running program.
	VMHelper string
	// VMKernel is the path of the bzImage, with 9p and virtio, that guests of
	// "microvm" have; "": the one that `sandboxd vm fetch` got. VMModules is the
	// directory of its modules; "": /lib/modules/RELEASE.
	VMKernel, VMModules string
}

// Open takes a lease, removes what dead supervisors left behind, and looks at
// the host. Nothing is started yet.
func Open(o Options) (*Host, error) {
	h := &Host{one: o.Only != nil, live: map[*Process]struct{}{}}
	var sub native.Options
	if !namespaces.Privileged() {
		var err error
		if sub.SubUIDs, sub.SubGIDs, err = namespaces.SubIDs(); err != nil {
			return nil, err
		}
		h.ids = ids{base: 1, count: min(sub.SubUIDs.Count, sub.SubGIDs.Count) / 2}
	}
	h.backends = backends(sub, o)
	b := h.backends["native"].(*native.Backend)
	if h.one {
		h.prestart(o.Only, b) // beside what follows
	}
	if o.Hold != nil {
		<-o.Hold
	}
	var err error
	if h.lease, err = lease.Acquire(lease.Dir(), sweep); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if namespaces.Privileged() {
		h.ids = ids{base: firstID + h.lease.N*idsPerLease, count: idsPerLease / 2}
	}
	if h.cgroups, h.noCgroup = cgroup.Detect(); h.noCgroup == nil {
		tree := h.cgroups.Tree
		if h.one {
			tree = h.cgroups.Solo
		}
		if h.tree, h.noCgroup = tree(leaseName(h.lease.N)); h.noCgroup == nil {
			h.noCgroup = h.lease.Note(strings.Join(h.tree.Dirs(), "\n"))
		}
	}
	return h, nil
}

// backends are all that there are, by name. That of wasm has one of its own
// below it, so that neither's probe or end is the other's.
func backends(sub native.Options, o Options) map[string]spawn.Backend {
	return map[string]spawn.Backend{
		"native": native.New(sub), "process": process.New(),
		"container": container.New(container.Options{Helper: o.ContainerHelper, SubUIDs: sub.SubUIDs, SubGIDs: sub.SubGIDs}),
		"wasm":      wasm.New(native.New(sub), wasm.Options{Worker: o.WasmWorker, Cache: o.WasmCache}),
		"gvisor":    gvisor.New(gvisor.Options{Runsc: o.Runsc, Outer: sub}),
		"microvm":   microvm.New(microvm.Options{Native: sub, Program: o.VMHelper, Kernel: o.VMKernel, Modules: o.VMModules}),
	}
}

// prestart begins the launcher of the only actor, and builds its root where
// that takes no ids of the lease. What is wrong with s, Start will say.
func (h *Host) prestart(s *Spec, b *native.Backend) {
	r := &resolved{spec: *s}
	switch err := r.identity(h); {
	case s.Backend == "container":
		h.backends[s.Backend].(*container.Backend).Prestart()
	case s.Backend == "gvisor":
		h.backends[s.Backend].(*gvisor.Backend).Prestart()
	case s.Backend != "" && s.Backend != "native" || s.Isolation != "":
	case err != nil || native.Bound(&r.request):
		b.Prestart(nil)
	default:
		b.Prestart(&r.request)
	}
}

// As root each lease owns a block of host ids, two for each actor, in a range
// that systemd's UIDS-GIDS document leaves unused.
const (
	firstID     = 1879048192
	idsPerLease = 32768
)

// sweep removes what a dead owner of lease n left: the kernel has killed its
// processes, and mounts and namespaces went with them.
func sweep(n int, note string) error {
	var dirs []string
	if note != "" {
		dirs = strings.Split(note, "\n")
	}
	return errors.Join(cgroup.Sweep(leaseName(n), dirs...), os.RemoveAll(privateDir(n)))
}

// leaseName names the cgroup folders of a lease: leases are numbered by each user alone.
func leaseName(n int) string {
	if uid := os.Geteuid(); uid != 0 {
		return "u" + strconv.Itoa(uid) + "-" + strconv.Itoa(n)
	}
	return strconv.Itoa(n)
}

// privateDir holds the private directories of actors without a root of their own.
func privateDir(n int) string {
	if os.Geteuid() == 0 {
		return "/run/sandboxd.d/" + strconv.Itoa(n)
	}
	return filepath.Join(lease.Dir(), strconv.Itoa(n)+".d")
}

// Warnings are what Open could not clean up; it names each.
func (h *Host) Warnings() error { return h.lease.Warnings }

// Backend gives a backend by name, "" being native.
func (h *Host) Backend(name string) (spawn.Backend, error) {
	if name == "" {
		name = "native"
	}
	if b := h.backends[name]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("unknown backend %q: want %s or auto", name, strings.Join(Backends(), ", "))
}

// Close cancels every actor that is left, waits until they are gone, and
// returns the lease. A second call is nil.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	var left []*Process
	for a := range h.live {
		left = append(left, a)
	}
	h.mu.Unlock()
	for _, a := range left {
		a.Cancel("host closed", 0)
	}
	for _, a := range left {
		<-a.gone
	}
	var err error
	for _, b := range h.backends {
		err = errors.Join(err, b.Close())
	}
	if h.tree != nil {
		err = errors.Join(err, h.tree.Close())
	}
	if h.private {
		_ = os.Remove(privateDir(h.lease.N)) // its parent is every supervisor's
	}
	return errors.Join(err, h.lease.Release())
}

// Exec runs one program to its end in a sandbox of its own. When ctx ends, the actor is cancelled: asked
// by SIGTERM, killed a second later. The error is that of the start; what
// happens afterwards is in the report.
func Exec(ctx context.Context, s Spec) (*Report, error) {
	h, err := Open(Options{Only: &s})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	a, err := h.Start(ctx, s)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { a.Cancel(context.Cause(ctx).Error(), time.Second) })
	defer stop()
	return a.Wait(context.Background())
}

// ids hands out pairs of host ids. The zero value has none.
type ids struct {
	base, count int
	mu          sync.Mutex
	used        map[int]bool
	hint        int
}

// take returns the index of a free pair.
func (p *ids) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used == nil {
		p.used = map[int]bool{}
	}
	for range p.count {
		i := p.hint % p.count
		p.hint++
		if !p.used[i] {
			p.used[i] = true
			return i, nil
		}
	}
	return 0, fmt.Errorf("all %d pairs of host ids are in use: too many live actors in one supervisor", p.count)
}

func (p *ids) give(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, i)
}

func (p *ids) host(i int) *spawn.HostIDs {
	return &spawn.HostIDs{InitUID: p.base + 2*i, InitGID: p.base + 2*i, UID: p.base + 2*i + 1, GID: p.base + 2*i + 1}
}
