package repo

import "strings"

// A layer is a rule on imports. Packages are named as below the module:
// "ipc" is that package, "ipc/..." also everything below it, "..." every
// package; a leading "!" takes packages out again. Imports are matched by
// prefix, or whole if they end in "$", as depguard does.
type layer struct {
	name  string
	in    []string // the packages that it binds
	tests bool     // their test files as well
	deep  bool     // also what they import through others; golangci-lint sees direct imports only
	only  []string // if not nil: all that they may import besides the standard library
	never []string // what they may not import
	why   string
}

const module = "sandboxd"

// layers are drawn in ARCHITECTURE.md:
//
//	cmd ─▶ sandbox ─▶ spawn ─▶ { namespaces, rootfs, ipc } ─▶ x/sys
//	                    ▲
//	        backends: spawn/native, spawn/process, spawn/container, spawn/wasm; spawn/{gvisor,microvm} ─▶ spawn/native
//	cmd ─▶ vm/vmrun ─▶ { vm, vm/debian, vm/guest, vm/initramfs } ◀─ spawn/microvm
var layers = []layer{
	{
		name: "ipc", in: []string{"ipc/..."}, tests: true,
		never: []string{"sandboxd/rootfs", "sandboxd/namespaces", "sandboxd/spawn", "sandboxd/sandbox", "sandboxd/cmd"},
		why:   "messages do not know what carries them, and programs inside a sandbox link this package",
	},
	{
		name: "wire", in: []string{"ipc/wire"}, only: []string{},
		why: "what reads hostile bytes first can be read and fuzzed by itself",
	},
	{
		name: "codec", in: []string{"ipc/codec"}, only: []string{"sandboxd/ipc/wire$"},
		why: "a value does not know which message carries it; peers in Go link this package",
	},
	{
		name: "rootfs", in: []string{"rootfs/..."}, tests: true,
		never: []string{"sandboxd/ipc", "sandboxd/namespaces", "sandboxd/spawn", "sandboxd/sandbox", "sandboxd/cmd"},
		why:   "a root is described as data; only backends combine it with namespaces and messages",
	},
	{
		name: "namespaces", in: []string{"namespaces/..."}, tests: true,
		never: []string{"sandboxd/ipc", "sandboxd/rootfs", "sandboxd/spawn", "sandboxd/sandbox", "sandboxd/cmd"},
		why:   "what the kernel offers is described as data; only backends combine it with roots and messages",
	},
	{
		name: "spawn", in: []string{"spawn/..."}, tests: true,
		never: []string{"sandboxd/sandbox", "sandboxd/cmd"},
		why:   "sandbox imports the contract of the backends, never the reverse (as database/sql and database/sql/driver)",
	},
	{
		name: "plan", in: []string{"spawn/plan"}, only: []string{},
		why: "a plan is plain data that can be read, compared and checked on any system",
	},
	{
		name: "backends", in: []string{"spawn/native/...", "spawn/process/...", "spawn/container/...", "spawn/wasm/..."},
		only: []string{
			"sandboxd/spawn$", "sandboxd/spawn/plan$", "sandboxd/spawn/launcher$", "sandboxd/spawn/container/job$", "sandboxd/spawn/wasm/job$",
			"sandboxd/namespaces", "sandboxd/rootfs", "sandboxd/ipc", "golang.org/x/sys",
		},
		why: "a backend knows the contract and what it compiles; backends do not know each other",
	},
	{
		name: "guests", in: []string{"spawn/gvisor/..."},
		only: []string{
			"sandboxd/spawn$", "sandboxd/spawn/plan$", "sandboxd/spawn/launcher$", "sandboxd/spawn/native$",
			"sandboxd/rootfs$", "sandboxd/ipc$", "golang.org/x/sys",
		},
		why: "a backend with a kernel of its own runs that in an actor of native's, and knows no other backend",
	},
	{
		name: "microvm", in: []string{"spawn/microvm/..."},
		only: []string{
			"sandboxd/spawn$", "sandboxd/spawn/plan$", "sandboxd/spawn/native$", "sandboxd/vm$", "sandboxd/vm/debian$", "sandboxd/vm/guest$", "sandboxd/vm/initramfs$",
			"sandboxd/namespaces", "sandboxd/rootfs", "sandboxd/ipc", "golang.org/x/sys",
		},
		why: "a machine is native around QEMU and native in the guest; it knows no other backend",
	},
	{
		name: "vm", in: []string{"vm/..."}, tests: true,
		never: []string{"sandboxd/ipc", "sandboxd/rootfs", "sandboxd/namespaces", "sandboxd/spawn", "sandboxd/sandbox", "sandboxd/cmd"},
		why:   "a guest is a machine: it knows nothing of sandboxes, so that a backend can be made of it",
	},
	{
		name: "modules", in: []string{"...", "!cmd/sandboxd-container/..."},
		only: []string{
			"sandboxd", "golang.org/x/sys", "github.com/klauspost/compress", "github.com/moby/profiles/seccomp",
			"github.com/opencontainers/runtime-spec", "github.com/tetratelabs/wazero", "go.opentelemetry.io/otel",
			"go/", // of the standard library, which depguard forgets behind the entry before
		},
		why: "a dependency is linked, started and trusted by every user: docs/dependencies.md lists the few, and why",
	},
	{
		name: "run-path", in: []string{"cmd/sandboxd/...", "sandbox", "spawn/...", "!spawn/spawntest", "ipc/...", "rootfs/...", "namespaces", "namespaces/seccomp", "namespaces/landlock"}, deep: true,
		never: []string{
			"net$", "net/http", "log/slog", "regexp", "text/template", "html/template",
			"github.com/spf13/cobra", "github.com/containerd/cgroups", "github.com/vmihailenco/msgpack",
		},
		why: "every package linked is initialised at each start of the command, used or not: start-up cost",
	},
	{
		name: "cgroups", in: []string{"...", "!sandbox/cgroup/..."}, tests: true,
		never: []string{"github.com/containerd/cgroups"},
		why:   "only the tests of sandbox/cgroup compare with it; it links 49 packages that a spawn has no use for",
	},
	{
		name: "msgpack", in: []string{"..."},
		never: []string{"github.com/vmihailenco/msgpack"},
		why:   "v5.4.1 lets five hostile bytes allocate gigabytes; tests compare with it, ipc/wire reads the wire",
	},
	{
		name: "compress", in: []string{"...", "!rootfs/unpack/..."},
		never: []string{"github.com/klauspost/compress"},
		why:   "archives are unpacked in one place, rootfs/unpack, which bounds what they may expand to",
	},
	{
		name: "profiles", in: []string{"...", "!namespaces/seccomp/internal/gen", "!cmd/sandboxd-container/internal/oci"},
		never: []string{"github.com/moby/profiles", "github.com/opencontainers/runtime-spec"},
		why:   "the generator of the seccomp tables reads the profile; the program holds its result only",
	},
	{
		name: "libcontainer", in: []string{"...", "!cmd/sandboxd-container/internal/oci"}, tests: true,
		never: []string{"github.com/opencontainers/runc", "github.com/opencontainers/cgroups", "github.com/sirupsen/logrus"},
		why:   "its API promises nothing, and who links it is started again for each container: one adapter, in a program of its own",
	},
	{
		name: "wazero", in: []string{"...", "!cmd/sandboxd-wasm/..."}, tests: true, deep: true,
		never: []string{"github.com/tetratelabs/wazero"},
		why:   "a compiler is a lot to start with: only the worker that runs modules, inside their sandbox, has it",
	},
	{
		name: "hosttest", in: []string{"...", "!internal/hosttest", "!spawn/spawntest"},
		never: []string{"sandboxd/internal/hosttest", "testing"},
		why:   "it is for tests; only the suite that backends import into theirs passes it on",
	},
	{
		name: "telemetry", in: []string{"...", "!sandbox/observe"}, deep: true,
		never: []string{"go.opentelemetry.io"},
		why:   "who wants traces imports sandbox/observe; nobody else links what they are made of",
	},
	{
		name: "gob-rpc", in: []string{"..."}, tests: true,
		never: []string{"encoding/gob", "net/rpc"},
		why:   "both build values from a hostile peer's description of types; frames of ipc/wire are bounded and typed",
	},
}

// binds says whether the rule holds for a package, named by its import path.
func (l *layer) binds(pkg string) bool {
	held := false
	for _, p := range l.in {
		p, out := strings.CutPrefix(p, "!")
		if within(pkg, p) {
			held = !out
		}
	}
	return held
}

func within(pkg, pattern string) bool {
	below := strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
	top, tree := strings.CutSuffix(pattern, "...")
	top = strings.TrimSuffix(top, "/")
	return below == top || tree && (top == "" || strings.HasPrefix(below, top+"/"))
}

// allows says whether a package that the rule binds may import path.
func (l *layer) allows(path string, std bool) bool {
	for _, p := range l.never {
		if matches(path, p) {
			return false
		}
	}
	if l.only == nil || std {
		return true
	}
	for _, p := range l.only {
		if matches(path, p) {
			return true
		}
	}
	return false
}

func matches(path, pattern string) bool {
	whole, exact := strings.CutSuffix(pattern, "$")
	if exact {
		return path == whole
	}
	return strings.HasPrefix(path, pattern)
}
