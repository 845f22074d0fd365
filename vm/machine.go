// Package vm boots one guest: QEMU with a kernel, an initramfs, memory, disks
// and ports.
//
//	m, err := vm.Start(vm.Config{QEMU: qemu, Kernel: image, Initrd: initrd, Ports: []string{"control"}})
//	defer m.Kill()
//	m.Ports[0].Write(hello)
//	err = m.Wait()
//
// The console and the ports are socket pairs, initramfs and disks are
// descriptors: nothing of a guest has a name on the host, so nothing is left
// when it ends, however it ends. QEMU dies with the thread that started it, so
// also when its starter is killed (PR_SET_PDEATHSIG, prctl(2)).
//
// Everything that comes out of a guest is hostile: the bytes of its console and
// its ports are handed on, never believed here.
//
// Non-goals: where kernels come from (vm/debian), what runs inside
// (vm/vmrun), firmware, graphics, migration.
package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Config describes a guest.
type Config struct {
	// QEMU is the command that starts it, and Data the directories of its
	// firmware; with no Data it knows its own.
	QEMU, Data []string
	// Kernel is the path of a bzImage.
	Kernel string
	// Initrd is the initramfs: a file that can be read from its beginning. It
	// stays the caller's, who may close it once Start has returned.
	Initrd *os.File
	// Append is added to the kernel's command line, after what makes a guest
	// that ends when it breaks (panic=-1 oops=panic). Words after "--" are init's.
	Append []string
	// CPUs; zero means one.
	CPUs int
	// Memory in bytes; zero means 512 MiB.
	Memory int64
	// Disks are raw images, in the order of /dev/vda, /dev/vdb. What a guest
	// writes to them is thrown away, and until then lies in a nameless file below
	// Scratch. They stay the caller's, as Initrd does.
	Disks []*os.File
	// Shares are directories that the guest can mount by 9p, with their tags.
	Shares []Share
	// CodeCache is how much memory an emulator keeps translated code in, in bytes;
	// zero is QEMU's own choice, an eighth of the host's memory or a gigabyte.
	CodeCache int64
	// Ports are the names of virtio-serial ports, in the guest's
	// /sys/class/virtio-ports/*/name.
	Ports []string
	// Network gives the guest a network card behind QEMU's user-mode NAT.
	Network bool
	// KVM uses the hardware; see KVM the function. Without it the guest is emulated.
	KVM bool
	// Device is /dev/kvm, open, for a QEMU that cannot open it itself, of version 10 or
	// later. It stays the caller's. Nil: QEMU opens it.
	Device *os.File
	// Console receives what the guest's kernel and init say (ttyS0), written by one
	// goroutine that has ended when Wait returns; nil throws it away.
	Console io.Writer
}

// Share is a directory that QEMU serves as itself: what it may do there, the
// guest may, and owners are those that QEMU sees.
type Share struct {
	Tag, Path string
	Writable  bool
}

// Scratch is where QEMU keeps what a guest writes to its disks.
const Scratch = "/var/tmp"

// Machine is a guest that was started.
type Machine struct {
	// Ports are our ends of Config.Ports. Kill closes them.
	Ports []*os.File

	cmd  *exec.Cmd
	done chan struct{} // closed when QEMU is reaped and the console drained
	err  error         // of QEMU; read after done
	said tail          // by QEMU itself
	kill sync.Once
}

// Start boots a guest. It returns when QEMU runs, long before the guest does:
// wait for the first bytes of a port. The Machine must be Killed or waited for.
func Start(c Config) (*Machine, error) {
	if len(c.QEMU) == 0 || c.Kernel == "" || c.Initrd == nil {
		return nil, errors.New("vm: a guest needs QEMU, a kernel and an initramfs")
	}
	if _, err := Release(c.Kernel); err != nil { // early and plainly what QEMU would say late
		return nil, err
	}
	m := &Machine{done: make(chan struct{})}
	// The child's ends: descriptor 3 and up, in this order.
	give := []*os.File{c.Initrd}
	give = append(give, c.Disks...)
	var ours, theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	for range 1 + len(c.Ports) {
		a, b, err := pair()
		if err != nil {
			closeAll(ours)
			return nil, fmt.Errorf("vm: socket pair of a port: %w", err)
		}
		ours, theirs = append(ours, a), append(theirs, b)
	}
	give = append(give, theirs...)
	if c.Device != nil {
		give = append(give, c.Device)
	}
	args := append(c.QEMU[1:len(c.QEMU):len(c.QEMU)], c.args()...)
	m.cmd = exec.Command(c.QEMU[0], args...)
	m.cmd.ExtraFiles = give
	m.cmd.Stdout, m.cmd.Stderr = &m.said, &m.said
	m.cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C", "TMPDIR=" + Scratch}
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	console, ports := ours[0], ours[1:]
	m.Ports = ports
	go func() {
		// PDEATHSIG is sent when the *thread* that forked ends, so it must live as long.
		runtime.LockOSThread()
		err := m.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			w := c.Console
			if w == nil {
				w = io.Discard
			}
			_, _ = io.Copy(w, console)
		}()
		m.err = m.cmd.Wait()
		<-drained // QEMU held the other end
		console.Close()
		close(m.done)
	}()
	if err := <-started; err != nil {
		closeAll(ours)
		return nil, fmt.Errorf("vm: start %s: %w; install qemu-system-x86, or give its path", c.QEMU[0], err)
	}
	return m, nil
}

// Command is the command line that starts c, for people to read.
func (c *Config) Command() []string {
	return slices.Concat(c.QEMU, c.args())
}

// args are QEMU's, for descriptors from 3 on as Start passes them.
func (c *Config) args() []string {
	fd := 3
	next := func() string { fd++; return strconv.Itoa(fd - 1) }
	accel, cpu := "tcg", "max"
	if c.CodeCache > 0 {
		accel += ",tb-size=" + strconv.FormatInt(c.CodeCache>>20, 10)
	}
	if c.KVM {
		accel, cpu = "kvm", "host"
		if c.Device != nil {
			accel += ",device=/dev/fdset/1"
		}
	}
	a := []string{
		"-M", "q35", "-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(max(c.CPUs, 1)),
		"-m", strconv.FormatInt(c.memory()>>10, 10) + "k",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		// What a guest that broke out of the emulation could do: nothing by exec or set-id.
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	}
	for _, d := range c.Data {
		a = append(a, "-L", d)
	}
	a = append(a, "-kernel", c.Kernel, "-initrd", "/proc/self/fd/"+next())
	a = append(a, "-append", strings.Join(append([]string{"console=ttyS0 quiet panic=-1 oops=panic reboot=t mitigations=off"}, c.Append...), " "))
	for i := range c.Disks {
		id := "disk" + strconv.Itoa(i)
		a = append(
			// Where the host's disk is full the guest sees it; by default QEMU would stop it for good.
			a, "-drive", "if=none,format=raw,snapshot=on,werror=report,id="+id+",file=/proc/self/fd/"+next(),
			"-device", "virtio-blk-pci,drive="+id,
		)
	}
	for i, share := range c.Shares {
		id := "share" + strconv.Itoa(i)
		// Inode numbers of several file systems are made distinct; set-id bits and devices of files are the host's, not honoured here.
		fsdev := "local,id=" + id + ",security_model=none,multidevs=remap,path=" + strings.ReplaceAll(share.Path, ",", ",,")
		if !share.Writable {
			fsdev += ",readonly=on"
		}
		a = append(a, "-fsdev", fsdev, "-device", "virtio-9p-pci,fsdev="+id+",mount_tag="+share.Tag)
	}
	a = append(a, "-chardev", "socket,id=console,fd="+next(), "-serial", "chardev:console")
	if len(c.Ports) > 0 {
		a = append(a, "-device", "virtio-serial-pci")
	}
	for i, name := range c.Ports {
		id := "port" + strconv.Itoa(i)
		a = append(
			a, "-chardev", "socket,id="+id+",fd="+next(),
			"-device", "virtserialport,chardev="+id+",name="+name,
		)
	}
	if c.Network {
		a = append(a, "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=")
	}
	if c.Device != nil {
		a = append(a, "-add-fd", "set=1,fd="+next())
	}
	return a
}

func (c *Config) memory() int64 {
	if c.Memory == 0 {
		return 512 << 20
	}
	return c.Memory
}

// Done is closed when the guest is gone and its console read to the end.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Wait waits for the end of QEMU. A guest that reboots or panics ends it too,
// without an error: what happened inside, its ports and its console say. The
// error holds QEMU's own words.
func (m *Machine) Wait() error {
	<-m.done
	if m.err == nil {
		return nil
	}
	return fmt.Errorf("vm: QEMU: %w: %s", m.err, strings.TrimSpace(m.said.String()))
}

// Kill ends the guest at once, waits until nothing is left of it, and closes
// the ports. It may come any number of times and from anywhere.
func (m *Machine) Kill() {
	m.kill.Do(func() {
		_ = m.cmd.Process.Kill()
		<-m.done
		closeAll(m.Ports)
	})
	<-m.done
}

// pair is a socket pair: our end non-blocking, so that deadlines work.
func pair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "port"), os.NewFile(uintptr(fds[1]), "port"), nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Release is what uname -r says in a guest with this kernel: a bzImage, of
// which it reads the header (Documentation/arch/x86/boot.rst).
func Release(kernel string) (string, error) {
	f, err := os.Open(kernel)
	if err != nil {
		return "", fmt.Errorf("vm: kernel: %w", err)
	}
	defer f.Close()
	var head [16]byte
	if _, err := f.ReadAt(head[:], 0x202); err != nil || string(head[:4]) != "HdrS" {
		return "", fmt.Errorf("vm: %s is no x86 kernel image (bzImage); an uncompressed vmlinux does not boot", kernel)
	}
	text := make([]byte, 256)
	n, _ := f.ReadAt(text, 0x200+int64(binary.LittleEndian.Uint16(head[12:])))
	release, _, _ := strings.Cut(string(text[:n]), " ")
	if release, _, _ = strings.Cut(release, "\x00"); release == "" || strings.ContainsAny(release, "/\n") {
		return "", fmt.Errorf("vm: %s does not say its release", kernel)
	}
	return release, nil
}

// tail keeps the last bytes written to it, for one writer at a time.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 8 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - most; n > 0 {
		t.b = t.b[n:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
