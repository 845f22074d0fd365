package launcher_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

//go:generate sh -c "init/sums.sh >init/objects.sum"

var machines = map[string]struct {
	compiler string
	elf      elf.Machine
}{
	"amd64": {"x86_64-linux-gnu-gcc", elf.EM_X86_64},
	"arm64": {"aarch64-linux-gnu-gcc", elf.EM_AARCH64},
}

func object(t testing.TB, arch string) []byte {
	t.Helper()
	b, err := os.ReadFile("init/init-" + arch)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// maxObject keeps the init small; every launcher's start reads it.
const maxObject = 24 << 10

// checkObject holds an object against what an init must be: a static program
// for this machine, with nothing both writable and executable.
func checkObject(t *testing.T, arch string, b []byte) {
	t.Helper()
	if len(b) > maxObject {
		t.Errorf("%d bytes, more than %d", len(b), maxObject)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC || f.Machine != machines[arch].elf || f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		t.Errorf("%v %v %v %v: want an executable for %s", f.Type, f.Machine, f.Class, f.Data, arch)
	}
	stack, loads, entry := false, 0, false
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_INTERP, elf.PT_DYNAMIC, elf.PT_TLS:
			t.Errorf("has a segment %v: want a static program without a libc", p.Type)
		case elf.PT_GNU_STACK:
			stack = p.Flags&elf.PF_X == 0
		case elf.PT_LOAD:
			loads++
			entry = entry || p.Flags&elf.PF_X != 0 && f.Entry >= p.Vaddr && f.Entry < p.Vaddr+p.Filesz
		}
		if p.Flags&elf.PF_W != 0 && p.Flags&elf.PF_X != 0 {
			t.Errorf("segment %v is writable and executable", p.ProgHeader)
		}
	}
	if !stack || loads == 0 || !entry {
		t.Errorf("stack not executable: %v, %d segments, entry in an executable one: %v", stack, loads, entry)
	}
	if symbols, err := f.Symbols(); !errors.Is(err, elf.ErrNoSymbols) {
		t.Errorf("not stripped: %d symbols", len(symbols))
	}
}

func TestCommittedObjects(t *testing.T) {
	for arch := range machines {
		t.Run(arch, func(t *testing.T) { checkObject(t, arch, object(t, arch)) })
	}
	if launcher.Object() != string(object(t, runtime.GOARCH)) {
		t.Error("the embedded object is not init-" + runtime.GOARCH)
	}
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if size := fmt.Sprintf("%d KB of freestanding C", (len(object(t, "amd64"))+512)>>10); err != nil || !strings.Contains(string(text), size) {
		t.Errorf("ARCHITECTURE.md does not say that the init has %s: %v", size, err)
	}
}

// The memory file that launchers run from cannot be changed by who gets hold of it.
func TestImageIsSealed(t *testing.T) {
	f, err := launcher.Image()
	if err != nil {
		t.Fatal(err)
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE; err != nil || seals&want != want {
		t.Errorf("seals %#x, %v", seals, err)
	}
	if _, err := f.WriteAt([]byte{0}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncate: %v", err)
	}
	hosttest.NeedKernel(t, 6, 3, "F_SEAL_EXEC")
	if err := f.Chmod(0o600); !errors.Is(err, unix.EPERM) {
		t.Errorf("chmod: %v", err)
	}
}

// sums reads init/objects.sum: checksums by file, compilers by machine.
func sums(t *testing.T) (files, compilers map[string]string) {
	t.Helper()
	b, err := os.ReadFile("init/objects.sum")
	if err != nil {
		t.Fatal(err)
	}
	files, compilers = map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if by, ok := strings.CutPrefix(line, "# "); ok {
			arch, compiler, _ := strings.Cut(by, ": ")
			compilers[arch] = compiler
		} else if sum, name, ok := strings.Cut(line, "  "); ok {
			files[name] = sum
		} else {
			t.Errorf("init/objects.sum: %q", line)
		}
	}
	return files, compilers
}

const regenerate = "run: go generate ./spawn/launcher"

// An object older than its sources is found by their contents.
func TestObjectsAreOfTheseSources(t *testing.T) {
	files, compilers := sums(t)
	var want []string
	build, err := os.ReadFile("init/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, regexp.MustCompile(`\b\w+\.c\b`).FindAllString(string(build), -1)...)
	for _, pattern := range []string{"*.h", "build.sh", "init-*"} {
		found, err := filepath.Glob("init/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			want = append(want, filepath.Base(f))
		}
	}
	for _, name := range want {
		b, err := os.ReadFile("init/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(b)); files[name] != got {
			t.Errorf("init/%s is not what init/objects.sum says; %s", name, regenerate)
		}
		delete(files, name)
	}
	if len(files) > 0 || len(want) < 9 {
		t.Errorf("init/objects.sum and the folder differ: %v, %q", files, want)
	}
	for arch := range machines {
		if !regexp.MustCompile(`^\S+ gcc \d+\.\d+\.\d+, GNU ld .*\d$`).MatchString(compilers[arch]) {
			t.Errorf("init/objects.sum does not say what built init-%s: %q", arch, compilers[arch])
		}
	}
}

// compiler is who would build for arch here, in the words of init/objects.sum.
func compiler(t *testing.T, arch string) string {
	t.Helper()
	cc := machines[arch].compiler
	if _, err := exec.LookPath(cc); err != nil {
		spawntest.Lack(t, "a compiler for %s: %v", arch, err)
	}
	out, err := exec.Command("init/sums.sh").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if by, ok := strings.CutPrefix(line, "# "+arch+": "); ok {
			return strings.TrimSpace(by)
		}
	}
	t.Fatalf("init/sums.sh does not speak of %s:\n%s", arch, out)
	return ""
}

// What the sources give today is the committed object, bit by bit where the
// compiler is the same; in any case it passes the tests of this package.
func TestRebuild(t *testing.T) {
	_, compilers := sums(t)
	for arch := range machines {
		t.Run(arch, func(t *testing.T) {
			if arch != runtime.GOARCH {
				hosttest.NotInGuest(t, "a compiler for "+arch)
			}
			here := compiler(t, arch)
			fresh := filepath.Join(spawntest.Dir(t), "init")
			if out, err := exec.Command("init/build.sh", arch, fresh).CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%v\n%s", err, out)
			}
			b, err := os.ReadFile(fresh)
			if err != nil {
				t.Fatal(err)
			}
			checkObject(t, arch, b)
			same := bytes.Equal(b, object(t, arch))
			switch {
			case here == compilers[arch] && !same:
				t.Errorf("init-%s is not what its sources give; %s", arch, regenerate)
			case !same:
				t.Logf("init-%s was built by %s; %s builds another one", arch, compilers[arch], here)
			}
			if arch == runtime.GOARCH {
				spawntest.Expect(t, spawntest.Again(t, os.Args[0], ".", "AsUser|Object|Rebuild|Sanitizers|Emulated", spawntest.ObjectEnv+"="+fresh))
			}
		})
	}
	if out, err := exec.Command("init/build.sh", "mips", "x").CombinedOutput(); err == nil || !strings.Contains(string(out), "no such machine") {
		t.Errorf("a machine that nobody has: %v\n%s", err, out)
	}
}

// The arm64 object is executed by an emulator: it serves, and ends at EOF.
func TestArm64Emulated(t *testing.T) {
	hosttest.NotInGuest(t, "an emulator")
	qemu, err := exec.LookPath("qemu-aarch64")
	if err != nil {
		spawntest.Lack(t, "an emulator of arm64 (Debian package qemu-user): %v", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	cmd := exec.Command(qemu, "init/init-arm64", "s")
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tell := func(steps ...plan.Step) (bool, *launcher.StepError) {
		b, err := launcher.RunRequest(steps)
		if err == nil {
			_, err = ours.Write(b)
		}
		answer := make([]byte, 256)
		n := 0
		if err == nil {
			n, err = ours.Read(answer)
		}
		if err != nil {
			t.Fatal(err)
		}
		done, fail, err := launcher.Answer(answer[:n])
		if err != nil {
			t.Fatal(err)
		}
		return done, fail
	}
	if done, fail := tell(step(plan.Umask, []uint64{0o22}), step(plan.Chdir, nil, "/usr")); !done || fail != nil {
		t.Errorf("%v, %v", done, fail)
	}
	if done, fail := tell(step(plan.Umask, []uint64{0o22}), step(plan.Chdir, nil, "/no/such")); done || fail == nil || fail.Errno != unix.ENOENT || fail.Index != 1 {
		t.Errorf("%v, %v", done, fail)
	}
	ours.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("at EOF it ended with %v", err)
		}
	case <-time.After(deadline):
		_ = cmd.Process.Kill()
		t.Error("it does not end at EOF")
	}
}
