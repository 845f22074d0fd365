package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// oci is a runtime with runc's command line.
type oci struct {
	w    *Workspace
	name string
	c    command // path and thread

	mu     sync.Mutex
	filter bool     // it has seccomp
	idle   []string // bundles; guarded by mu
	made   int      // guarded by mu
	runs   int      // guarded by mu
}

// NewRunc measures `runc run` of a generated bundle: user, pid, mount, uts, ipc,
// cgroup and net namespaces, memory, pids and cpu limits, no capabilities,
// no_new_privs, read-only root, and a seccomp filter if runc has it.
func NewRunc(w *Workspace) Subject { return &oci{w: w, name: "runc"} }

// NewCrun measures `crun run` of the same bundle. A crun that refuses a host
// with cgroups of both versions is shown the first version only.
func NewCrun(w *Workspace) Subject { return &oci{w: w, name: "crun"} }

func (o *oci) Name() string { return o.name }

func (o *oci) Version(ctx context.Context) (string, error) {
	return firstLine(ctx, o.name, "--version")
}

func (o *oci) Probe(ctx context.Context) error {
	path, err := exec.LookPath(o.name)
	if err != nil {
		return &AbsentError{Subject: o.name, Reason: "install " + o.name, Err: err}
	}
	if os.Geteuid() != 0 {
		return &AbsentError{Subject: o.name, Reason: "cgroup limits and a range of ids are needed; run as root"}
	}
	about, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return &AbsentError{Subject: o.name, Reason: "it does not tell its version; reinstall it", Err: err}
	}
	o.c.path = path
	o.filter = strings.Contains(string(about), "libseccomp") || strings.Contains(string(about), "+SECCOMP")
	_, err = o.Once(ctx)
	if err == nil {
		return nil
	}
	if o.c.thread == nil && strings.Contains(err.Error(), "hybrid") {
		if o.c.thread, err = newOwnThread(hideUnified); err == nil {
			err = o.w.onClose(o.c.thread.close)
		}
		if err == nil {
			return probeOnce(ctx, o, "it refuses this cgroup layout and also fails with the cgroup2 mount hidden")
		}
	}
	return &AbsentError{Subject: o.name, Reason: "it does not run the bundle", Err: err}
}

// hideUnified covers the cgroup2 mounts that are beside others.
func hideUnified() error {
	all, err := hierarchies()
	for _, h := range all {
		if err == nil && h.unified {
			err = unix.Mount("none", h.root, "tmpfs", 0, "") // writable: it makes a directory there all the same
		}
	}
	return err
}

func (o *oci) Once(ctx context.Context) (Sample, error) {
	bundle, id, err := o.take()
	if err != nil {
		return Sample{}, err
	}
	c := o.c
	c.args = o.args(bundle, id)
	s, err := c.once(ctx)
	if err != nil {
		return s, err
	}
	o.mu.Lock()
	o.idle = append(o.idle, bundle)
	o.mu.Unlock()
	return s, nil
}

func (o *oci) args(bundle, id string) []string {
	return []string{"--root", filepath.Join(o.w.dir, o.name), "run", "--bundle", bundle, id}
}

// take gives a bundle that nobody uses, since each names a cgroup of its own.
func (o *oci) take() (bundle, id string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs++
	id = fmt.Sprintf("%s-%s-%d", o.w.folder, o.name, o.runs)
	if n := len(o.idle); n > 0 {
		bundle, o.idle = o.idle[n-1], o.idle[:n-1]
		return bundle, id, nil
	}
	o.made++
	bundle = filepath.Join(o.w.dir, fmt.Sprintf("%s-bundle-%d", o.name, o.made))
	if err := os.Mkdir(bundle, 0o711); err != nil {
		return "", "", fmt.Errorf("bench: make a bundle: %w", err)
	}
	filter := ""
	if o.filter {
		filter = seccompConfig()
	}
	text := fmt.Sprintf(bundleConfig, tinyName, o.w.root(), filepath.Join(o.w.folder, fmt.Sprintf("%s-%d", o.name, o.made)), filter)
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(text), 0o644); err != nil {
		return "", "", fmt.Errorf("bench: make a bundle: %w", err)
	}
	return bundle, id, nil
}

// seccompConfig forbids what the bare program's filter does.
func seccompConfig() string {
	denied := strings.Fields(`mount umount2 pivot_root move_mount open_tree fsopen fsconfig fsmount setns unshare
		clone3 ptrace process_vm_readv process_vm_writev bpf perf_event_open keyctl add_key request_key userfaultfd
		io_uring_setup init_module finit_module delete_module kexec_load reboot swapon swapoff acct quotactl
		settimeofday clock_settime`)
	slices.Sort(denied)
	return fmt.Sprintf(`, "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
	{"names": ["%s"], "action": "SCMP_ACT_ERRNO"}]}`, strings.Join(denied, `", "`))
}

// Source: the OCI runtime specification, config.md and config-linux.md. The
// directories that fill the four gaps need no quoting: we chose their names.
const bundleConfig = `{
"ociVersion": "1.0.2",
"process": {
	"terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["/%s"], "env": [], "cwd": "/",
	"capabilities": {"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []},
	"noNewPrivileges": true
},
"root": {"path": "%s", "readonly": true},
"hostname": "bench",
"mounts": [
	{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
	{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]}
],
"linux": {
	"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
	"gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
	"cgroupsPath": "%s",
	"resources": {
		"devices": [{"allow": false, "access": "rwm"}],
		"memory": {"limit": 67108864}, "pids": {"limit": 32}, "cpu": {"quota": 100000, "period": 100000}
	},
	"namespaces": [{"type": "user"}, {"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"},
		{"type": "cgroup"}, {"type": "network"}]%s
}}
`
