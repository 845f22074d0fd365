package landlock

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// all is a policy that asks for everything there is.
var all = Policy{
	Dirs: Paths{
		Read: []string{"/r"}, ReadExec: []string{"/x"}, ReadWrite: []string{"/w"}, Device: []string{"/dev/pts"}, Socket: []string{"/run"},
	},
	Files: Paths{
		Read: []string{"/fr"}, ReadExec: []string{"/fx"}, ReadWrite: []string{"/fw"}, Device: []string{"/dev/tty"}, Socket: []string{"/sock"},
	},
	NoInet: true,
}

// The masks of every ABI, as numbers: those of the kernel's own tables
// (security/landlock/limits.h at the version that raised the ABI).
func TestMasksByABI(t *testing.T) {
	for _, tt := range []struct {
		abi             int
		fs, net, scoped uint64
		missing         []string
	}{
		{0, 0, 0, 0, []string{
			"fs.execute", "fs.write_file", "fs.read_file", "fs.read_dir", "fs.remove_dir", "fs.remove_file", "fs.make_char",
			"fs.make_dir", "fs.make_reg", "fs.make_sock", "fs.make_fifo", "fs.make_block", "fs.make_sym", "fs.refer", "fs.truncate",
			"fs.ioctl_dev", "fs.resolve_unix", "net.bind_tcp", "net.connect_tcp", "net.bind_udp", "net.connect_send_udp",
			"scope.abstract_unix_socket", "scope.signal",
		}},
		{1, 0x1fff, 0, 0, []string{
			"fs.refer", "fs.truncate", "fs.ioctl_dev", "fs.resolve_unix", "net.bind_tcp", "net.connect_tcp",
			"net.bind_udp", "net.connect_send_udp", "scope.abstract_unix_socket", "scope.signal",
		}},
		{2, 0x3fff, 0, 0, []string{
			"fs.truncate", "fs.ioctl_dev", "fs.resolve_unix", "net.bind_tcp", "net.connect_tcp",
			"net.bind_udp", "net.connect_send_udp", "scope.abstract_unix_socket", "scope.signal",
		}},
		{3, 0x7fff, 0, 0, []string{
			"fs.ioctl_dev", "fs.resolve_unix", "net.bind_tcp", "net.connect_tcp",
			"net.bind_udp", "net.connect_send_udp", "scope.abstract_unix_socket", "scope.signal",
		}},
		{4, 0x7fff, 3, 0, []string{
			"fs.ioctl_dev", "fs.resolve_unix", "net.bind_udp", "net.connect_send_udp", "scope.abstract_unix_socket", "scope.signal",
		}},
		{5, 0xffff, 3, 0, []string{
			"fs.resolve_unix", "net.bind_udp", "net.connect_send_udp", "scope.abstract_unix_socket", "scope.signal",
		}},
		{6, 0xffff, 3, 3, []string{"fs.resolve_unix", "net.bind_udp", "net.connect_send_udp"}},
		{7, 0xffff, 3, 3, []string{"fs.resolve_unix", "net.bind_udp", "net.connect_send_udp"}},
		{8, 0xffff, 3, 3, []string{"fs.resolve_unix", "net.bind_udp", "net.connect_send_udp"}},
		{9, 0x1ffff, 3, 3, []string{"net.bind_udp", "net.connect_send_udp"}},
		{10, 0x1ffff, 15, 3, nil},
		{99, 0x1ffff, 15, 3, nil},
	} {
		rs, err := all.Compile(tt.abi)
		if err != nil {
			t.Fatal(err)
		}
		if rs.HandledFS != tt.fs || rs.HandledNet != tt.net || rs.Scoped != tt.scoped {
			t.Errorf("ABI %d: %#x %#x %#x, want %#x %#x %#x", tt.abi, rs.HandledFS, rs.HandledNet, rs.Scoped, tt.fs, tt.net, tt.scoped)
		}
		if !slices.Equal(rs.Missing, tt.missing) {
			t.Errorf("ABI %d misses %q, want %q", tt.abi, rs.Missing, tt.missing)
		}
	}
}

// The rights of each rule at the ABIs that change them.
func TestRules(t *testing.T) {
	for abi, want := range map[int][]Rule{
		0: nil,
		1: {
			{"/r", 0xc, false},
			{"/x", 0xd, false},
			{"/w", 0x17be, false},
			{"/dev/pts", 0xe, false},
			{"/fr", 0x4, true},
			{"/fx", 0x5, true},
			{"/fw", 0x6, true},
			{"/dev/tty", 0x6, true},
		},
		5: {
			{"/r", 0xc, false},
			{"/x", 0xd, false},
			{"/w", 0x77be, false},
			{"/dev/pts", 0xc00e, false},
			{"/fr", 0x4, true},
			{"/fx", 0x5, true},
			{"/fw", 0x4006, true},
			{"/dev/tty", 0xc006, true},
		},
		9: {
			{"/r", 0xc, false},
			{"/x", 0xd, false},
			{"/w", 0x77be, false},
			{"/dev/pts", 0xc00e, false},
			{"/run", 0x10000, false},
			{"/fr", 0x4, true},
			{"/fx", 0x5, true},
			{"/fw", 0x4006, true},
			{"/dev/tty", 0xc006, true},
			{"/sock", 0x10000, true},
		},
	} {
		rs, err := all.Compile(abi)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(rs.Rules, want) {
			t.Errorf("ABI %d: rules %#v, want %#v", abi, rs.Rules, want)
		}
	}
	for _, abi := range []int{1, 5, 7, 9, 10} {
		rs, err := all.Compile(abi)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs.Rules {
			if r.Access == 0 || r.Access&^rs.HandledFS != 0 || r.Access&(unix.LANDLOCK_ACCESS_FS_MAKE_CHAR|unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK) != 0 {
				t.Errorf("ABI %d: %s is granted %#x of %#x", abi, r.Path, r.Access, rs.HandledFS)
			}
		}
	}
}

func TestSamePathTwice(t *testing.T) {
	rs, err := Policy{Dirs: Paths{ReadExec: []string{"/a", "/a"}, ReadWrite: []string{"/a"}}}.Compile(7)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Rule{{"/a", grantReadExec | grantReadWrite, false}}; !slices.Equal(rs.Rules, want) {
		t.Errorf("rules %#v, want %#v", rs.Rules, want)
	}
}

// Not being able to move files matters to who may write, and to nobody else.
func TestReferIsMissedByWritersOnly(t *testing.T) {
	for _, p := range []Policy{{Dirs: Paths{Read: []string{"/"}}}, {Files: Paths{ReadWrite: []string{"/f"}}}} {
		rs, err := p.Compile(1)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(rs.Missing, "fs.refer") {
			t.Errorf("%+v misses %q", p, rs.Missing)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, p := range map[string]Policy{
		"relative":     {Dirs: Paths{Read: []string{"usr"}}},
		"empty":        {Dirs: Paths{Read: []string{""}}},
		"not clean":    {Dirs: Paths{ReadWrite: []string{"/tmp/../etc"}}},
		"zero byte":    {Files: Paths{Read: []string{"/a\x00b"}}},
		"dir and file": {Dirs: Paths{Read: []string{"/a"}}, Files: Paths{Device: []string{"/a"}}},
	} {
		if _, err := p.Compile(7); !errors.Is(err, ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAttr(t *testing.T) {
	got := Ruleset{HandledFS: 0x1ffff, HandledNet: 3, Scoped: 2}.Attr()
	want, err := hex.DecodeString("ffff010000000000" + "0300000000000000" + "0200000000000000")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, want %x (%v)", got, want, err)
	}
}

func TestProbeOutcomes(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOSYS, unix.EOPNOTSUPP} {
		if abi, err := outcome(-1, errno); abi != 0 || !errors.Is(err, ErrUnsupported) || !errors.Is(err, errno) {
			t.Errorf("%v: %d, %v", errno, abi, err)
		}
	}
	if _, err := outcome(-1, unix.EPERM); errors.Is(err, ErrUnsupported) || !errors.Is(err, unix.EPERM) {
		t.Errorf("EPERM: %v", err)
	}
	if abi, err := outcome(7, 0); abi != 7 || err != nil {
		t.Errorf("7: %d, %v", abi, err)
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := all.Compile(7); err != nil {
			b.Fatal(err)
		}
	}
}
