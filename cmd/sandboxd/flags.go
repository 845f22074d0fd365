package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"sandboxd/rootfs"
	"sandboxd/sandbox"
)

// runOptions are what a run line says: the Spec, and how to talk about it.
type runOptions struct {
	spec     sandbox.Spec
	terminal bool
	helper   string // of the container backend
	worker   string // of the wasm backend
	runsc    string // of the gvisor backend
	kernel   string // of the microvm backend
	modules  string // likewise
	report   string
	file     *os.File // where the report goes
	json     bool
	quiet    bool
	verbose  bool
}

const runUsage = `Usage: sandboxd run [flags] [--] PROGRAM [ARG...]

Runs PROGRAM in a sandbox: own namespaces, read-only root, no network, private
/tmp, no capabilities, seccomp, Landlock, and limits that keep the host usable.
A limit that you write is enforced or the run is refused; a default is enforced
wherever the host allows, and the report lists it where it is not.

Limits (sizes: 64m, 1g; times: 5s, 200ms; -1: no limit)
  --memory SIZE         memory, private files included (default 512m; also -m)
  --memory-swap SIZE    memory and swap together (default: no swap)
  --cpus N              CPU bandwidth, such as 0.5 (default: all but 0.1)
  --cpuset-cpus LIST    CPUs to run on, such as 0,2-3
  --cpu-time TIME       CPU time of all processes together
  --timeout TIME        wall time; exit code 124
  --pids-limit N        processes and threads (default 256)
  --ulimit NAME=SOFT[:HARD]  as docker's; may repeat (default nofile=1024)
  --file-size SIZE      largest file
  --disk SIZE           everything writable together (default 256m)
  --disk-inodes N       files and directories (default 65536)
  --output-limit SIZE   stdout and stderr together (default 1g)

File system
  --root ROOT           host (default), scratch, a directory, or a tar archive
  --writable            changes to a directory or archive root go to a private layer
  --mount SRC:DST[:rw]  let a host directory or file in, read-only unless rw; may repeat (also -v)
  --workdir DIR         working directory inside (also -w)

Identity
  --env KEY[=VALUE]     environment; KEY alone passes the caller's; may repeat (also -e)
  --user UID[:GID]      who the program is inside (default 1000:1000; also -u)
  --hostname NAME       host name inside (default sandbox)
  --name NAME           name in the report
  --network none|host   network (default none, loopback only)
  --time-ns             clocks of its own that start at zero

Walls
  --isolation FLOOR     least boundary: process, namespace, kernel or vm; picks the
                        cheapest backend that reaches it and holds the rest
  --backend NAME        native (default), process, container, gvisor, microvm, wasm
                        (PROGRAM is a WASI module) or auto (by --isolation, or namespace)
  --container-helper FILE  sandboxd-container, if it is not beside sandboxd
  --runsc FILE          gVisor's runsc, if it is neither beside sandboxd nor in PATH
  --wasm-worker FILE    sandboxd-wasm, if it is not beside sandboxd
  --vm-kernel FILE      a bzImage for microvm (default: what sandboxd vm fetch got)
  --vm-modules DIR      its modules (default: /lib/modules/RELEASE)
  --seccomp default|kill  a forbidden system call fails with EPERM, or ends the program
  --best-effort         run without what this host cannot enforce; the report lists it

Talking
  -i                    stdin is always passed on; accepted for habit
  -t                    give the program a terminal (-it works)
  --report FILE         write what happened as JSON
  --json                print the report as JSON on stderr at the end
  --quiet               say nothing of our own (also -q)
  --verbose             say how the start went

Exit code: the program's own; 124 timeout; 125 sandboxd failed; 126 program not
runnable; 127 program not found; 128+n killed by signal n.
`

// parseRun reads a run line.
func parseRun(args []string, out io.Writer) (*runOptions, error) {
	return parseLine("run", runUsage, args, out)
}

// parseLine reads the line of a verb that takes what run takes.
func parseLine(verb, usage string, args []string, out io.Writer) (*runOptions, error) {
	o := &runOptions{}
	f := o.flags(verb)
	if err := parseFlags(f, usage, args, out); err != nil {
		return nil, err
	}
	if o.spec.Argv = f.Args(); len(o.spec.Argv) == 0 {
		return nil, fmt.Errorf("no program given; write it after --, as in: sandboxd %s -- python3 -V", verb)
	}
	return o, nil
}

// flags fill in the options.
func (o *runOptions) flags(verb string) *flag.FlagSet {
	f := flag.NewFlagSet(verb, flag.ContinueOnError)
	s, l := &o.spec, &o.spec.Limits
	// An empty value is a script's unset variable: it must not pass for the default.
	word := func(to *string) func(string) error {
		return func(v string) error {
			if v == "" {
				return errEmpty
			}
			*to = v
			return nil
		}
	}
	f.Var(bytesValue{&l.Memory}, "memory", "")
	f.Var(bytesValue{&l.Memory}, "m", "")
	f.Var(bytesValue{&l.MemorySwap}, "memory-swap", "")
	f.Func("cpus", "", func(v string) (err error) {
		if v == "unlimited" {
			v = "-1"
		}
		if l.CPUs, err = strconv.ParseFloat(v, 64); err != nil || !(l.CPUs > 0 || l.CPUs == sandbox.Unlimited) {
			return fmt.Errorf("%q is not a number of CPUs such as 0.5 or 2, or -1 for no limit", v)
		}
		return nil
	})
	f.Func("cpuset-cpus", "", word(&l.CPUSet))
	f.Var(timeValue{&l.CPUTime}, "cpu-time", "")
	f.Var(timeValue{&l.Timeout}, "timeout", "")
	f.Var(countValue{&l.PIDs}, "pids-limit", "")
	f.Func("ulimit", "", func(v string) error {
		u, err := parseUlimit(v)
		l.Ulimits = append(l.Ulimits, u)
		return err
	})
	f.Var(bytesValue{&l.FileSize}, "file-size", "")
	f.Var(bytesValue{&l.Disk}, "disk", "")
	f.Var(countValue{&l.DiskInodes}, "disk-inodes", "")
	f.Var(bytesValue{&l.Output}, "output-limit", "")
	f.Func("root", "", func(v string) error {
		if v == "" {
			return errEmpty
		}
		root, err := rootfs.Parse(v)
		root.Writable = s.Root.Writable
		s.Root = root
		return err
	})
	f.BoolVar(&s.Root.Writable, "writable", false, "")
	mount := func(v string) error {
		m, err := rootfs.ParseMount(v)
		s.Mounts = append(s.Mounts, m)
		return err
	}
	f.Func("mount", "", mount)
	f.Func("v", "", mount)
	f.Func("workdir", "", word(&s.Dir))
	f.Func("w", "", word(&s.Dir))
	env := func(v string) error {
		if v == "" || v[0] == '=' {
			return fmt.Errorf("%q has no name; want KEY=VALUE, or KEY to pass the caller's", v)
		}
		if !strings.Contains(v, "=") {
			value, ok := os.LookupEnv(v)
			if !ok {
				return nil // as docker: what is not set is not passed
			}
			v += "=" + value
		}
		s.Env = append(s.Env, v)
		return nil
	}
	f.Func("env", "", env)
	f.Func("e", "", env)
	user := func(v string) (err error) {
		s.User, err = parseUser(v)
		return err
	}
	f.Func("user", "", user)
	f.Func("u", "", user)
	f.Func("hostname", "", word(&s.Hostname))
	f.Func("name", "", word(&s.Name))
	f.Func("network", "", func(v string) error {
		switch v {
		case "none":
			s.Network = sandbox.NetNone
		case "host":
			s.Network = sandbox.NetHost
		default:
			return fmt.Errorf("%q is neither none nor host", v)
		}
		return nil
	})
	f.BoolVar(&s.TimeNS, "time-ns", false, "")
	f.Func("backend", "", word(&s.Backend))
	f.Func("isolation", "", word((*string)(&s.Isolation)))
	f.Func("container-helper", "", word(&o.helper))
	f.Func("wasm-worker", "", word(&o.worker))
	f.Func("runsc", "", word(&o.runsc))
	f.Func("vm-kernel", "", word(&o.kernel))
	f.Func("vm-modules", "", word(&o.modules))
	f.Func("seccomp", "", func(v string) error {
		if v != "default" && v != "kill" {
			return fmt.Errorf("%q is neither default nor kill", v)
		}
		s.SeccompKill = v == "kill"
		return nil
	})
	f.BoolVar(&s.BestEffort, "best-effort", false, "")
	f.Bool("i", false, "")
	f.BoolVar(&o.terminal, "t", false, "")
	f.BoolVar(&o.terminal, "it", false, "")
	f.Func("report", "", word(&o.report))
	f.BoolVar(&o.json, "json", false, "")
	f.BoolVar(&o.quiet, "quiet", false, "")
	f.BoolVar(&o.quiet, "q", false, "")
	f.BoolVar(&o.verbose, "verbose", false, "")
	return f
}

var errEmpty = errors.New("it is empty; leave the flag out for its default")

// parseUlimit reads docker's NAME=SOFT[:HARD].
func parseUlimit(v string) (sandbox.Ulimit, error) {
	bad := fmt.Errorf("%q is not NAME=SOFT[:HARD], such as nofile=64:128", v)
	name, values, ok := strings.Cut(v, "=")
	if !ok {
		return sandbox.Ulimit{}, bad
	}
	soft, hard, both := strings.Cut(values, ":")
	if !both {
		hard = soft
	}
	u := sandbox.Ulimit{Name: name}
	var err1, err2 error
	u.Soft, err1 = strconv.ParseInt(soft, 10, 64)
	u.Hard, err2 = strconv.ParseInt(hard, 10, 64)
	if err1 != nil || err2 != nil {
		return sandbox.Ulimit{}, bad
	}
	return u, nil
}

// parseUser reads UID[:GID] strictly: no names, no signs, nothing ambiguous.
func parseUser(v string) (*sandbox.User, error) {
	uid, gid, both := strings.Cut(v, ":")
	if !both {
		gid = uid
	}
	u, err1 := strconv.ParseUint(uid, 10, 31)
	g, err2 := strconv.ParseUint(gid, 10, 31)
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("%q is not UID[:GID] in numbers", v)
	}
	return &sandbox.User{UID: int(u), GID: int(g)}, nil
}
