// Package oci is the one package that imports libcontainer, whose API promises
// nothing: it makes a container of a Job and waits for its end.
//
//	c, err := oci.Start("1", j, stage, init, plan, files)
//	exit, err := c.Wait()
//
// libcontainer executes this program anew for each container, as `init`: the
// init function of this package is that second life, and nsenter, which is C,
// runs before it.
//
// libcontainer manages no cgroup here: it is told that it may not (Rootless),
// and it could not, since stage.Open made them read-only. It has no seccomp
// filter to install either, so it needs no libseccomp: the minimal init installs ours.
//
// Non-goals: roots (package stage), hooks, checkpoints, more processes in a container.
package oci

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // sets cgroups.DevicesSetV2
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // joins namespaces before Go begins
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"sandboxd/cmd/sandboxd-container/internal/stage"
	"sandboxd/spawn/container/job"
	"sandboxd/spawn/launcher"
)

func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
	logrus.SetOutput(io.Discard) // what matters comes as an error
}

// Container is one that runs, or has.
type Container struct {
	process *libcontainer.Process
	record  *os.File // what the init says of a failed step
	state   string
}

// Start makes the container of j in s and starts image, the minimal init, in
// it, which executes plan and finds files from descriptor 6 on.
func Start(id string, j *job.Job, s *stage.Stage, image *os.File, plan []byte, files []*os.File) (*Container, error) {
	record, err := memory("step", make([]byte, 8))
	if err != nil {
		return nil, err
	}
	steps, err := memory("plan", plan)
	if err != nil {
		record.Close()
		return nil, err
	}
	defer steps.Close()
	if err := deviceRules(j, files); err != nil {
		record.Close()
		return nil, err
	}
	made, err := libcontainer.Create(stage.State, id, config(j, s, files))
	if err != nil {
		record.Close()
		return nil, err
	}
	yes := true
	uid, gid := j.InitIDs()
	c := &Container{record: record, state: stage.State + "/" + id, process: &libcontainer.Process{
		Args: []string{"/proc/self/fd/3", "ck"}, Env: []string{"HOME=/"}, Cwd: "/", UID: uid, GID: gid, Init: true,
		ExtraFiles: append([]*os.File{image, record, steps}, files...), Capabilities: capabilities(), NoNewPrivileges: &yes,
	}}
	if err := made.Run(c.process); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// Pidfd is of the container's process 1. The caller owns it.
func (c *Container) Pidfd() (int, error) {
	pid, err := c.process.Pid()
	if err != nil {
		return -1, err
	}
	return unix.PidfdOpen(pid, 0) // it has not been waited for, so the number is its own
}

// Kill ends a container of which nobody else could hear, and waits.
func (c *Container) Kill() {
	_ = c.process.Signal(syscall.SIGKILL)
	_, _ = c.Wait()
}

// Wait returns when everything in the container is dead. It is called once.
func (c *Container) Wait() (launcher.Exit, error) {
	defer c.close()
	ended, err := c.process.Wait()
	if ended == nil {
		return launcher.Exit{}, fmt.Errorf("wait for the container: %w", err)
	}
	var record [8]byte
	_, _ = c.record.ReadAt(record[:], 0)
	exit := launcher.Exit{Status: ended.Sys().(syscall.WaitStatus), Fail: launcher.Failed(record)}
	if u, ok := ended.SysUsage().(*syscall.Rusage); ok {
		exit.UserUS, exit.SystemUS = u.Utime.Sec*1e6+u.Utime.Usec, u.Stime.Sec*1e6+u.Stime.Usec
		exit.MaxRSSBytes, exit.ReadBytes, exit.WrittenBytes = u.Maxrss<<10, u.Inblock*512, u.Oublock*512
	}
	return exit, nil
}

func (c *Container) close() {
	c.record.Close()
	_ = os.RemoveAll(c.state)
}

// memory is a file in memory that holds b.
func memory(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, bytes.NewReader(b)); err != nil {
		f.Close()
		return nil, fmt.Errorf("fill memfd %s: %w", name, err)
	}
	return f, nil
}

// deviceRules forbid the actor's cgroup v2, where it has one, all devices but the
// stage's own: a second wall behind a user namespace that can make no device.
// An ordinary user can set none: they take CAP_BPF over the host.
func deviceRules(j *job.Job, files []*os.File) error {
	if j.Rootless || j.Cgroup < 0 || j.Cgroup >= len(files) {
		return nil
	}
	rules := []*devices.Rule{{Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard, Permissions: "rwm"}}
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, devices.Wildcard}} { // the last two are terminals'
		rules = append(rules, &devices.Rule{Type: devices.CharDevice, Major: d[0], Minor: d[1], Permissions: "rwm", Allow: true})
	}
	if err := cgroups.DevicesSetV2(fmt.Sprintf("/proc/self/fd/%d", files[j.Cgroup].Fd()), &cgroups.Resources{Devices: rules}); err != nil {
		return fmt.Errorf("device rules of the actor's cgroup: %w (the kernel needs CONFIG_CGROUP_BPF, and this process CAP_BPF)", err)
	}
	return nil
}

// What OCI runtimes hide of /proc and keep read-only there by default (moby's
// and containerd's lists are the same). /sys is not mounted at all.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func config(j *job.Job, s *stage.Stage, files []*os.File) *configs.Config {
	uid, gid := j.InitIDs()
	c := &configs.Config{
		Rootfs: s.Root, Readonlyfs: !j.Root.Writable, Hostname: j.Hostname, NoNewPrivileges: true,
		NoNewKeyring: true, // the init takes an anonymous one; libcontainer's has a name
		Namespaces: configs.Namespaces{
			{Type: configs.NEWUSER}, {Type: configs.NEWIPC}, {Type: configs.NEWUTS}, {Type: configs.NEWPID}, {Type: configs.NEWNS},
		},
		UIDMappings:   []configs.IDMap{{ContainerID: int64(uid), HostID: int64(j.Host.InitUID), Size: 1}, {ContainerID: int64(j.UID), HostID: int64(j.Host.UID), Size: 1}},
		GIDMappings:   []configs.IDMap{{ContainerID: int64(gid), HostID: int64(j.Host.InitGID), Size: 1}, {ContainerID: int64(j.GID), HostID: int64(j.Host.GID), Size: 1}},
		MaskPaths:     maskedPaths,
		ReadonlyPaths: readonlyPaths,
		Capabilities:  capabilities(),
		Cgroups:       &cgroups.Cgroup{Name: job.NoCgroup, Rootless: true, Resources: &cgroups.Resources{}}, RootlessCgroups: true,
		OomScoreAdj: &j.OOMScore,
		Mounts: []*configs.Mount{
			{Source: "proc", Destination: "/proc", Device: "proc", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY},
			// libcontainer makes no /dev where one is mounted: the nodes in this one are the stage's.
			{Source: s.Root + "/dev", Destination: "/dev", Device: "bind", Flags: unix.MS_BIND | unix.MS_REC | unix.MS_RDONLY | unix.MS_NOSUID},
			{Source: "devpts", Destination: "/dev/pts", Device: "devpts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "newinstance,ptmxmode=0666,mode=0620"},
		},
	}
	switch {
	case j.HostNetwork:
	case j.Netns >= 0 && j.Netns < len(files):
		c.Namespaces.Add(configs.NEWNET, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), files[j.Netns].Fd()))
	default:
		c.Namespaces.Add(configs.NEWNET, "")
		c.Networks = []*configs.Network{{Type: "loopback", Address: "127.0.0.1/0", Gateway: "localhost"}}
	}
	if j.TimeNS {
		c.Namespaces.Add(configs.NEWTIME, "")
		c.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": since(unix.CLOCK_MONOTONIC), "boottime": since(unix.CLOCK_BOOTTIME)}
	}
	return c
}

// since starts a clock of time_namespaces(7) at (nearly) zero.
func since(clock int32) specs.LinuxTimeOffset {
	var now unix.Timespec
	_ = unix.ClockGettime(clock, &now)
	return specs.LinuxTimeOffset{Secs: -now.Sec}
}

// capabilities are what the init needs to confine the program, which gets none,
// and to enter a cgroup namespace; it then keeps CAP_KILL alone.
func capabilities() *configs.Capabilities {
	set := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN"}
	return &configs.Capabilities{Bounding: set, Effective: set, Inheritable: set, Permitted: set, Ambient: set}
}
