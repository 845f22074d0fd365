package vmrun

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sandboxd/vm/debian"
)

const usage = `Usage: sandboxd vm run [flags] -- PROGRAM [ARG...]
       go test -exec "sandboxd vm run [flags] --" ./...

Runs PROGRAM in a virtual machine of its own, as root, on a kernel of your
choice, and ends as PROGRAM ended. A PROGRAM with a slash is a file of this host
and is packed; one without is looked for in the guest. Of a Go test the package's
testdata is packed too, and coverage and profiles come back.

Guest
  --kernel NAME|PATH    %s (default %s), or a bzImage
  --kernel-matrix LIST  run on several, one after the other, with no standard
                        input; "all" is all by name
  --modules DIR         modules of a kernel given as PATH (/lib/modules/RELEASE)
  --module NAME         load this module and what it needs; may repeat
  --cgroup LAYOUT       v2 (default), hybrid, or v1
  --as USER             root (default), or user: uid 1000 with a cgroup of its own
  --smp N               processors (default 1)
  --memory SIZE         such as 512m (default) or 2g
  --disk IMAGE:DIR      mount an ext4, erofs or squashfs image; at / it is the
                        root. Changes to it are thrown away; may repeat
  --net none|user       network: loopback (default), or QEMU's NAT
  --qemu PATH           another QEMU than the pinned one
  --emulate             do not use KVM

Program
  --file PATH[:GUEST]   pack a file or directory of this host, without what is hidden
                        below it (.git); may repeat
  --env KEY[=VALUE]     environment; KEY alone passes the caller's; may repeat
  --return PATH         send this file or directory back afterwards; may repeat
  --count N             run it N times, each in a guest of its own, with no standard
                        input, until one fails
  --timeout TIME        end it (default 10m; of a Go test its own and a minute)
  --boot-timeout TIME   for the way to the program (default 90s, 20s with KVM)

Output
  --console FILE        write everything that the guest's kernel says
  -v                    say what took how long

Exit code: PROGRAM's (128 and the number of a signal), or 125 where the virtual
machine failed. QEMU and kernels are fetched once, to SANDBOXD_VM_CACHE (default
~/.cache/sandboxd/vm), from the Debian archive that apt uses or that
SANDBOXD_DEBIAN_MIRROR names. Nothing is installed.
`

var errHelp = errors.New("help was asked for")

// options are what a command line says.
type options struct {
	job
	kernels     []string
	modules     string
	extra       []string // modules
	cgroup, as  string
	cpus        int
	memory      int64
	disks       []string // paths of images, as job.Disks has their places
	network     bool
	qemu        string
	emulate     bool
	pack        []packed
	limit       time.Duration // of the program; zero is none
	bootTimeout time.Duration
	count       int
	console     string
	verbose     bool
	args        []string
}

// packed is a file or directory of the host and where the guest has it.
type packed struct{ host, guest string }

// guestPath is the guest's PATH, whatever the caller's shell uses.
const guestPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func parseFlags(args []string) (o *options, err error) {
	o = &options{}
	f := flag.NewFlagSet("vm run", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	kernel := f.String("kernel", debian.Kernels()[0], "")
	matrix := f.String("kernel-matrix", "", "")
	f.StringVar(&o.modules, "modules", "", "")
	f.Func("module", "", list(&o.extra))
	f.StringVar(&o.cgroup, "cgroup", cgroupV2, "")
	f.StringVar(&o.as, "as", "root", "")
	f.IntVar(&o.cpus, "smp", 1, "")
	f.Func("memory", "", func(s string) (err error) { o.memory, err = parseSize(s); return err })
	f.Func("disk", "", func(s string) error {
		image, at, ok := strings.Cut(s, ":")
		if !ok || image == "" || !filepath.IsAbs(at) {
			return errors.New("want IMAGE:DIR with an absolute DIR")
		}
		o.disks, o.Disks = append(o.disks, image), append(o.Disks, mount{At: filepath.Clean(at)})
		return nil
	})
	net := f.String("net", "none", "")
	f.StringVar(&o.qemu, "qemu", "", "")
	f.BoolVar(&o.emulate, "emulate", false, "")
	var files, env, returns []string
	f.Func("file", "", list(&files))
	f.Func("env", "", list(&env))
	f.Func("return", "", list(&returns))
	f.DurationVar(&o.limit, "timeout", -1, "")
	f.DurationVar(&o.bootTimeout, "boot-timeout", 0, "")
	f.IntVar(&o.count, "count", 1, "")
	f.StringVar(&o.console, "console", "", "")
	f.BoolVar(&o.verbose, "v", false, "")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, errHelp
		}
		return nil, err
	}
	o.args = f.Args()
	switch {
	case len(o.args) == 0:
		return nil, errors.New("no program is given")
	case !slices.Contains([]string{cgroupV2, cgroupHybrid, cgroupV1}, o.cgroup):
		return nil, fmt.Errorf("--cgroup %q: want v2, hybrid or v1", o.cgroup)
	case o.as != "root" && o.as != "user":
		return nil, fmt.Errorf("--as %q: want root or user", o.as)
	case *net != "none" && *net != "user":
		return nil, fmt.Errorf("--net %q: want none or user", *net)
	case o.cpus < 1 || o.cpus > 64:
		return nil, fmt.Errorf("--smp %d: want 1 to 64", o.cpus)
	case o.count < 1:
		return nil, fmt.Errorf("--count %d: want 1 or more", o.count)
	case o.limit < -1 || o.bootTimeout < 0:
		return nil, errors.New("a time below zero")
	}
	switch *matrix {
	case "":
		o.kernels = []string{*kernel}
	case "all":
		o.kernels = debian.Kernels()
	default:
		o.kernels = strings.Split(*matrix, ",")
	}
	o.network, o.User, o.Cgroup, o.Network = *net == "user", o.as == "user", o.cgroup, *net == "user"
	if o.Dir, err = os.Getwd(); err != nil {
		return nil, err
	}
	o.Dirs = []string{o.Dir}
	if err := o.addFiles(files); err != nil {
		return nil, err
	}
	if err := o.addProgram(); err != nil {
		return nil, err
	}
	o.addEnv(env)
	for _, p := range returns {
		p, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		dir := filepath.Dir(p)
		if st, err := os.Stat(p); err == nil && st.IsDir() {
			dir = p
		}
		o.Return, o.Dirs = append(o.Return, p), append(o.Dirs, dir)
	}
	if o.limit == -1 {
		o.limit = 10 * time.Minute
	}
	return o, nil
}

func list(to *[]string) func(string) error {
	return func(s string) error {
		if s == "" {
			return errors.New("it is empty")
		}
		*to = append(*to, s)
		return nil
	}
}

// load are the modules that the guest is for, and those that the options need.
func (o *options) load() []string {
	names := []string{"virtio_pci", "virtio_console", "overlay", "fuse", "tun", "veth"}
	if len(o.disks) > 0 {
		names = append(names, "virtio_blk", "ext4", "erofs", "squashfs")
	}
	if o.network {
		names = append(names, "virtio_net")
	}
	return append(names, o.extra...)
}

func (o *options) addFiles(files []string) error {
	for _, f := range files {
		host, guest, ok := strings.Cut(f, ":")
		host, err := filepath.Abs(host)
		if err != nil {
			return err
		}
		if !ok {
			guest = host
		}
		if !filepath.IsAbs(guest) {
			return fmt.Errorf("--file %s: %q is not an absolute path", f, guest)
		}
		if _, err := os.Stat(host); err != nil {
			return fmt.Errorf("--file: %w", err)
		}
		o.pack = append(o.pack, packed{host, filepath.Clean(guest)})
	}
	return nil
}

// addProgram packs the program where it is one of the host's, with what a Go
// test needs.
func (o *options) addProgram() (err error) {
	o.Args = slices.Clone(o.args)
	if !strings.Contains(o.args[0], "/") {
		return nil
	}
	program, err := filepath.Abs(o.args[0])
	if err != nil {
		return err
	}
	if st, err := os.Stat(program); err != nil {
		return fmt.Errorf("program: %w", err)
	} else if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("program: %s is no executable file", program)
	}
	if !slices.Contains(o.Disks, mount{At: "/"}) {
		if err := static(program); err != nil {
			return err
		}
	}
	o.Args[0] = program
	o.pack = append(o.pack, packed{program, program})
	test := false
	for _, a := range o.args[1:] {
		name, value, ok := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if !strings.HasPrefix(name, "test.") {
			break // the test's own arguments
		}
		test = true
		if !ok || value == "" {
			continue
		}
		switch name {
		case "test.timeout":
			d, err := time.ParseDuration(value)
			if err != nil {
				return fmt.Errorf("-%s: %w", name, err)
			}
			if o.limit == -1 {
				o.limit = 0
				if d > 0 {
					// The test ends itself, with stacks; this is for a guest that hangs.
					o.limit = d + time.Minute
				}
			}
		case "test.coverprofile", "test.cpuprofile", "test.memprofile", "test.blockprofile", "test.mutexprofile", "test.trace":
			if !filepath.IsAbs(value) {
				value = filepath.Join(o.Dir, value)
			}
			o.Return, o.Dirs = append(o.Return, value), append(o.Dirs, filepath.Dir(value))
		case "test.gocoverdir", "test.outputdir":
			o.Return, o.Dirs = append(o.Return, value), append(o.Dirs, value)
		}
	}
	if data := filepath.Join(o.Dir, "testdata"); test {
		if _, err := os.Stat(data); err == nil {
			o.pack = append(o.pack, packed{data, data})
		}
	}
	return nil
}

func (o *options) addEnv(env []string) {
	o.Env = []string{guestPath, "LANG=C.UTF-8", "TERM=dumb", "HOME=/root", "USER=root"}
	if o.User {
		o.Env = append(o.Env[:3], "HOME=/home/user", "USER=user", "XDG_RUNTIME_DIR=/run/user/1000")
	}
	for _, e := range env {
		if key, _, ok := strings.Cut(e, "="); !ok {
			value, set := os.LookupEnv(key)
			if !set {
				continue
			}
			e = key + "=" + value
		}
		o.Env = append(o.Env, e)
	}
}

func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(s), "kmgib")
	n, err := strconv.ParseInt(digits, 10, 32)
	shift, ok := map[string]int{"": 0, "k": 10, "m": 20, "g": 30}[strings.TrimRight(strings.ToLower(s[len(digits):]), "ib")]
	if n <<= shift; err != nil || !ok || n < 64<<20 {
		return 0, fmt.Errorf("%q is no size of 64m or more", s)
	}
	return n, nil
}
