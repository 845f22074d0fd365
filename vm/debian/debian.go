// Package debian supplies what a guest needs from Debian's archive: QEMU, and
// kernels with their modules.
//
//	cache, err := debian.DefaultCache()
//	qemu, err := cache.QEMU(ctx, progress)
//	kernel, err := cache.Kernel(ctx, "6.1", progress)
//
// The packages, their versions and their checksums are pinned in pins.tsv.
// What is missing is fetched with apt's own downloader, so that the mirror and
// the proxies are the machine's, and is unpacked with dpkg-deb into the cache
// of whoever runs it. Nothing is installed, no privilege is needed, and a warm
// cache needs neither network nor apt.
//
// QEMU is run by the dynamic linker and with the libraries that were fetched
// with it, so nothing of it depends on the host's.
//
// Non-goals: resolving dependencies (scripts/vm-pins.sh did, when it wrote the
// table), other distributions' archives, other architectures than amd64.
package debian

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

//go:embed pins.tsv
var table string

// pin is one package of the table.
type pin struct {
	set, name, version string
	size               int64
	sum                string // SHA-256, hexadecimal
	path               string // below the archive's root
}

func parse(table string) ([]pin, error) {
	var pins []pin
	for line := range strings.Lines(table) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 6 {
			return nil, fmt.Errorf("pins: %q has %d fields, want 6", line, len(f))
		}
		size, err := strconv.ParseInt(f[3], 10, 64)
		sum, err2 := hex.DecodeString(f[4])
		if err != nil || err2 != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("pins: %q: size or checksum is none", line)
		}
		pins = append(pins, pin{f[0], f[1], f[2], size, f[4], f[5]})
	}
	return pins, nil
}

// of returns the packages of one set.
func of(set string) []pin {
	pins, err := parse(table)
	if err != nil {
		panic(err) // the table is part of the program, and tested
	}
	return slices.DeleteFunc(pins, func(p pin) bool { return p.set != set })
}

// Kernels are the names that Kernel knows, oldest first.
func Kernels() []string {
	pins, err := parse(table)
	if err != nil {
		panic(err)
	}
	var names []string
	for _, p := range pins {
		if p.set != "qemu" && !slices.Contains(names, p.set) {
			names = append(names, p.set)
		}
	}
	return names
}

// Cache is a directory of unpacked packages. Any number of processes may use it
// at once. The zero value is no cache: see DefaultCache.
type Cache struct {
	// Dir is made where it is missing. It may be removed whenever nothing runs.
	Dir string
	// Offline makes what is missing an ErrMissing: nothing is fetched.
	Offline bool
	// Mirror is the root of a Debian archive; empty means the one that apt's
	// configuration names.
	Mirror string
}

// ErrMissing is wrapped by the answer of a Cache that is Offline and has not got what was asked for.
var ErrMissing = errors.New("not fetched yet")

// Version is that of a pinned package, "" if there is none by that name.
func Version(name string) string {
	pins, err := parse(table)
	if err != nil {
		panic(err)
	}
	for _, p := range pins {
		if p.name == name {
			return p.version
		}
	}
	return ""
}

// DefaultCache is below the user's cache directory (XDG_CACHE_HOME, or
// ~/.cache). SANDBOXD_VM_CACHE names another one, SANDBOXD_DEBIAN_MIRROR an
// archive.
func DefaultCache() (Cache, error) {
	c := Cache{Dir: os.Getenv("SANDBOXD_VM_CACHE"), Mirror: os.Getenv("SANDBOXD_DEBIAN_MIRROR")}
	if c.Dir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return c, fmt.Errorf("vm cache: %w; set SANDBOXD_VM_CACHE to a directory", err)
		}
		c.Dir = filepath.Join(dir, "sandboxd", "vm")
	}
	if !filepath.IsAbs(c.Dir) {
		return c, fmt.Errorf("vm cache: %q is not an absolute path", c.Dir)
	}
	return c, nil
}

// QEMU is the command line that starts the pinned QEMU, without arguments of
// its own, and the directories for its -L.
func (c Cache) QEMU(ctx context.Context, progress io.Writer) (command, data []string, err error) {
	dir, err := c.supply(ctx, "qemu", progress)
	if err != nil {
		return nil, nil, err
	}
	const libs = "lib/x86_64-linux-gnu"
	command = []string{
		filepath.Join(dir, libs, "ld-linux-x86-64.so.2"),
		"--library-path", filepath.Join(dir, libs) + ":" + filepath.Join(dir, "usr", libs),
		filepath.Join(dir, "usr/bin/qemu-system-x86_64"),
	}
	return command, []string{filepath.Join(dir, "usr/share/qemu"), filepath.Join(dir, "usr/share/seabios")}, nil
}

// Kernel is the image of a kernel, and the directory of its modules (what
// /lib/modules/RELEASE is on a running system).
func (c Cache) Kernel(ctx context.Context, name string, progress io.Writer) (image, modules string, err error) {
	if name == "qemu" || len(of(name)) == 0 {
		return "", "", fmt.Errorf("no kernel is called %q; there are %s, or give the path of an image", name, strings.Join(Kernels(), ", "))
	}
	dir, err := c.supply(ctx, name, progress)
	if err != nil {
		return "", "", err
	}
	// Up to 6.12 the image is in /boot, later with the modules; /lib became /usr/lib.
	for _, pattern := range []string{"boot/vmlinuz-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz-*"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) == 1 {
			image = found[0]
		}
	}
	for _, pattern := range []string{"lib/modules/*", "usr/lib/modules/*"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern, "kernel")); len(found) == 1 {
			modules = filepath.Dir(found[0])
		}
	}
	if image == "" || modules == "" {
		return "", "", fmt.Errorf("kernel %s: %s holds image %q and modules %q: remove that directory, it is fetched again", name, dir, image, modules)
	}
	return image, modules, nil
}

// supply makes sure that a set is unpacked, and returns where. The directory's
// name holds a digest of the pins, so it is complete and current if it exists:
// it gets that name last of all.
func (c Cache) supply(ctx context.Context, set string, progress io.Writer) (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("vm cache: the pinned packages are amd64's, this is %s: give --kernel and --qemu as paths", runtime.GOARCH)
	}
	pins := of(set)
	pinned := sha256.New()
	for _, p := range pins {
		fmt.Fprintln(pinned, p.sum)
	}
	dir := filepath.Join(c.Dir, set+"-"+hex.EncodeToString(pinned.Sum(nil))[:12])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if c.Offline {
		return "", fmt.Errorf("vm cache: %s: %w to %s", set, ErrMissing, c.Dir)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", fmt.Errorf("vm cache: %w; set SANDBOXD_VM_CACHE to a directory that can be written", err)
	}
	unlock, err := lock(c.Dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil { // made while we waited
		return dir, nil
	}
	// Under the lock whatever is half made is a dead process's.
	if err := sweep(c.Dir); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(c.Dir, partial)
	if err != nil {
		return "", fmt.Errorf("vm cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := c.fetch(ctx, set, pins, tmp, progress); err != nil {
		return "", err
	}
	root := filepath.Join(tmp, "root")
	for _, p := range pins {
		deb := filepath.Join(tmp, filepath.Base(p.path))
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, root).CombinedOutput(); err != nil {
			return "", fmt.Errorf("vm cache: unpack %s %s: %w: %s", p.name, p.version, err, c.reason(out, ""))
		}
		if err := os.Remove(deb); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(root, 0o755); err != nil {
		return "", err
	}
	if err := writeSums(root); err != nil {
		return "", fmt.Errorf("vm cache: checksums: %w%s", err, c.space())
	}
	if err := os.Rename(root, dir); err != nil {
		return "", fmt.Errorf("vm cache: %w", err)
	}
	return dir, nil
}

const partial = "partial-"

func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, partial+"*"))
	for _, l := range left {
		err = errors.Join(err, os.RemoveAll(l))
	}
	return err
}

// lock admits one process at a time to the making of a set; the kernel frees
// it when its holder dies (flock(2)).
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("vm cache: %w", err)
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("vm cache: lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// helper is apt's downloader: it knows the machine's proxies and checks sums.
const helper = "/usr/lib/apt/apt-helper"

// fetch downloads the packages of a set into dir, and checks each.
func (c Cache) fetch(ctx context.Context, set string, pins []pin, dir string, progress io.Writer) error {
	mirror, err := c.mirror(ctx)
	if err != nil {
		return err
	}
	var size int64
	// Root's apt would fetch as _apt, who cannot write here, and in a user namespace not even be.
	args := []string{"-qq", "-o", "APT::Sandbox::User=root", "download-file"}
	for _, p := range pins {
		size += p.size
		args = append(args, mirror+"/"+strings.ReplaceAll(p.path, "+", "%2b"), filepath.Join(dir, filepath.Base(p.path)), "SHA256:"+p.sum)
	}
	fmt.Fprintf(progress, "vm: fetching %s: %d packages, %d MB, once\n", set, len(pins), (size+999_999)/1_000_000)
	out, err := exec.CommandContext(ctx, helper, args...).CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("vm cache: fetch %s: %w: %s", set, err, c.reason(out, "; if the archive no longer serves these versions, run scripts/vm-pins.sh, or name another one in SANDBOXD_DEBIAN_MIRROR"))
	}
	for _, p := range pins { // apt checked; what it promises is cheap to see
		if err := verify(filepath.Join(dir, filepath.Base(p.path)), p); err != nil {
			return err
		}
	}
	return nil
}

func verify(path string, p pin) error {
	sum, err := digest(path)
	if err != nil {
		return fmt.Errorf("vm cache: %w", err)
	}
	if sum != p.sum {
		return fmt.Errorf("vm cache: %s %s has SHA-256 %s, pinned is %s: the archive or the way to it is not to be trusted", p.name, p.version, sum, p.sum)
	}
	return nil
}

// mirror is the root of the archive that this machine uses.
func (c Cache) mirror(ctx context.Context) (string, error) {
	if c.Mirror != "" {
		return strings.TrimRight(c.Mirror, "/"), nil
	}
	const way = "; install QEMU and a kernel yourself and give --qemu and --kernel as paths, or name a Debian archive in SANDBOXD_DEBIAN_MIRROR"
	if _, err := os.Stat(helper); err != nil {
		return "", errors.New("vm cache: this machine has no apt to fetch with" + way)
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)", "Identifier: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("vm cache: ask apt for its sources: %w%s", err, way)
	}
	for uri := range strings.Lines(string(out)) {
		if uri = strings.TrimRight(strings.TrimSpace(uri), "/"); strings.HasSuffix(uri, "/debian") {
			return uri, nil
		}
	}
	return "", errors.New("vm cache: apt's sources name no Debian archive" + way)
}

// space is the way out where a full disk is the reason: of the programs that
// fail of it, not all say so.
func (c Cache) space() string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(c.Dir, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) > 1<<20 {
		return ""
	}
	return "; free some space for " + c.Dir + ", or set SANDBOXD_VM_CACHE to a directory elsewhere"
}

// reason is what a program said that failed, and the way out: its first error,
// from which the others follow.
func (c Cache) reason(out []byte, way string) string {
	if s := c.space(); s != "" {
		way = s
	}
	said := strings.TrimSpace(string(out))
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "E:") {
			return strings.TrimSpace(line) + way
		}
	}
	return said + way
}
