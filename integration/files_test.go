package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandboxd/sandbox"
)

// Files of the host and of the kernel. "-" means not there at all.
const files = `
r:/etc/shadow: -
r:/etc/gshadow: -
r:/etc/sudoers: -
l:/etc/ssh: -
l:/root: -
l:/var/log: -
l:/var/lib: -
l:/home/sandbox: ENODATA
l:/srv: -
l:/opt: -
l:/media: -
l:/boot: -
l:/run/user: -
l:/run/systemd: -
r:/run/docker.sock: -
l:/run/sandboxd/..: OK
l:/tmp: ENODATA
l:/dev/shm: ENODATA
l:/dev/mqueue: -
l:/lost+found: -

l:/sys: -
r:/sys/kernel/uevent_helper: -
w:/sys/kernel/uevent_helper: -
l:/sys/fs/cgroup: -
l:/sys/kernel/security: -
l:/sys/kernel/debug: -

r:/proc/1/environ: EACCES|EPERM
r:/proc/kcore: -
r:/proc/kmsg: -
w:/proc/sysrq-trigger: -
w:/proc/sys/kernel/core_pattern: -
w:/proc/sys/kernel/modprobe: -
w:/proc/sys/kernel/hostname: -
w:/proc/sys/kernel/ns_last_pid: -
w:/proc/sys/vm/overcommit_memory: -
w:/proc/sys/net/ipv4/ip_forward: -
w:/proc/sys/fs/binfmt_misc/register: -
w:/proc/sys/user/max_user_namespaces: -
r:/proc/kpagecount: -
r:/proc/keys: -
r:/proc/timer_list: -
r:/proc/sched_debug: -
r:/proc/latency_stats: -
l:/proc/acpi: -
l:/proc/scsi: -
l:/proc/asound: -
w:/proc/irq/default_smp_affinity: -
w:/proc/mtrr: -
r:/proc/vmallocinfo: -
r:/proc/pagetypeinfo: -
r:/proc/slabinfo: -
w:/proc/self/uid_map: EACCES|EPERM|EROFS
w:/proc/self/exe: EACCES|EPERM|ETXTBSY|EROFS

r:/dev/mem: -
r:/dev/port: -
r:/dev/kmsg: -
r:/dev/vda: -
r:/dev/sda: -
r:/dev/loop0: -
r:/dev/loop-control: -
r:/dev/fuse: -
r:/dev/kvm: -
r:/dev/net/tun: -
r:/dev/console: -
r:/dev/tty0: -
r:/dev/input/event0: -
r:/dev/hwrng: -
r:/dev/userfaultfd: -

c:/owned: RO
c:/usr/owned: RO
c:/usr/bin/owned: RO
c:/etc/owned: RO
c:/lib/owned: RO
c:/var/owned: RO
c:/home/owned: RO
c:/run/owned: RO
c:/run/sandboxd/owned: RO
c:/dev/owned: RO
c:/proc/owned: -
w:/usr/bin/true: RO
w:/etc/passwd: RO
w:/etc/ld.so.cache: RO
w:/hostile/probe_open: RO

c:/tmp/mine: OK
c:/home/sandbox/mine: OK
c:/dev/shm/mine: OK
w:/dev/null: OK
r:/dev/zero: OK
r:/dev/urandom: OK
r:/proc/self/status: OK
r:/etc/passwd: OK
r:/usr/bin/true: OK
x:/usr/bin/true: OK
`

func TestHostFiles(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		table := strings.ReplaceAll(files, ": -\n", ": ENOENT|EACCES|EPERM|ENOTDIR|EROFS|ENODATA|EIO|ENXIO\n")
		table = strings.ReplaceAll(table, ": RO\n", ": EROFS|EACCES|EPERM|ETXTBSY\n")
		var argv []string
		for line := range strings.Lines(table) {
			if name, _, ok := cutLast(line); ok {
				argv = append(argv, name)
			}
		}
		res := c.attack(t, "", append([]string{"probe_open"}, argv...)...)
		res.want(t, 0, sandbox.Exited)
		compare(t, res.stdout, table)
	})
}

// What lies on the host beside the way of a mount is not to be seen.
func TestHostPathsDoNotShow(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		secret := filepath.Join(base, "canary")
		res := c.attack(t, "", "probe_open", "r:"+secret, "l:"+base, "l:"+c.home, "r:/hostile/../canary", "r:/proc/self/root/"+secret, "r:/proc/self/cwd/../.."+secret)
		for line := range strings.Lines(res.stdout) {
			if !strings.HasSuffix(line, ": ENOENT\n") && !strings.HasSuffix(line, ": EACCES\n") {
				t.Errorf("a host path shows: %s", line)
			}
		}
		// The mount table, the cgroup and the environment do not tell where we live.
		res = c.run(t, "", "/bin/sh", "-c", "cat /proc/self/mountinfo /proc/self/mounts /proc/self/cgroup /proc/self/environ; hostname; cat /etc/passwd /etc/hosts")
		res.want(t, 0, sandbox.Exited)
		host, _ := os.Hostname()
		own, _ := os.ReadFile("/proc/self/cgroup")
		words := []string{base, c.home, "sandboxd-integration"}
		for line := range strings.Lines(string(own)) {
			if _, path, ok := strings.Cut(strings.TrimSpace(line), ":/"); ok && path != "" {
				words = append(words, path)
			}
		}
		if len(host) > 3 {
			words = append(words, host)
		}
		for _, w := range words {
			if strings.Contains(res.stdout, w) {
				t.Errorf("the sandbox shows %q:\n%s", w, res.stdout)
			}
		}
	})
}
