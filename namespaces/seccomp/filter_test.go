package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// call is what a filter sees of a system call.
type call struct {
	arch Arch
	nr   uint32
	args [6]uint64
}

// run interprets the instructions that the kernel accepts from seccomp
// (kernel/seccomp.c, seccomp_check_filter) as far as this package emits them.
// It returns the answer and the number of instructions executed.
func run(f Filter, c call) (Action, int, error) {
	data := binary.LittleEndian.AppendUint32(nil, c.nr)
	data = binary.LittleEndian.AppendUint32(data, uint32(c.arch))
	data = binary.LittleEndian.AppendUint64(data, 0) // instruction pointer
	for _, a := range c.args {
		data = binary.LittleEndian.AppendUint64(data, a)
	}
	var acc uint32
	for pc, steps := 0, 1; pc < len(f); pc, steps = pc+1, steps+1 {
		in := f[pc]
		jump := func(cond bool) {
			if cond {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.LittleEndian.Uint32(data[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(acc == in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(acc >= in.K)
		case unix.BPF_RET | unix.BPF_K:
			return Action(in.K), steps, nil
		default:
			return 0, steps, fmt.Errorf("instruction %d has code %#x", pc, in.Code)
		}
	}
	return 0, 0, errors.New("fell off the end")
}

// slow is the policy evaluated as it reads, without ranges, trees or jumps.
func slow(p *Policy, c call) Action {
	deny := func(a Action) Action {
		if a == 0 {
			return p.Default
		}
		return a
	}
	if c.arch != p.Arch || c.arch == AMD64 && c.nr >= 1<<30 {
		return deny(p.Foreign)
	}
	for _, r := range p.Rules {
		if uint32(r.Nr) != c.nr {
			continue
		}
		for _, cs := range r.Cases {
			holds := true
			for _, cond := range cs.If {
				mask := cond.Mask
				if mask == 0 {
					mask = 1<<32 - 1
				}
				holds = holds && slices.Contains(cond.In, uint32(c.args[cond.Arg])&mask)
			}
			if holds {
				return deny(cs.Then)
			}
		}
		return deny(r.Else)
	}
	for _, nr := range p.Allow {
		if uint32(nr) == c.nr {
			return Allow
		}
	}
	if c.nr > uint32(p.Newest) {
		return Errno(unix.ENOSYS)
	}
	return p.Default
}

func policies(t testing.TB) []*Policy {
	t.Helper()
	var ps []*Policy
	for _, a := range []Arch{AMD64, ARM64} {
		for bits := range 16 {
			p, err := Default(a, Options{Kill: bits&1 != 0, NoInet: bits&2 != 0, NoAffinity: bits&4 != 0, OwnLimits: bits&8 != 0})
			if err != nil {
				t.Fatal(err)
			}
			ps = append(ps, p)
		}
	}
	return ps
}

func compile(t testing.TB, p *Policy) Filter {
	t.Helper()
	f, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Every number, with argument values around everything that a rule compares,
// gets from the compiled filter what the policy says.
func TestFilterAgreesWithPolicy(t *testing.T) {
	values := []uint64{
		0, 1, 2, 3, 10, 16, 17, 58, 132, 0x5412, 0x1_0000_541c, 0o1777, 0o4755, 0o100, 0o20200000,
		0x10000000, 0x20008, 0xffffffff, 0x80802, 1 << 63,
	}
	for _, p := range policies(t) {
		f := compile(t, p)
		conditioned := map[uint32]bool{}
		for _, r := range p.Rules {
			conditioned[uint32(r.Nr)] = len(r.Cases) > 0
		}
		worst := 0
		check := func(c call) {
			t.Helper()
			got, steps, err := run(f, c)
			if want := slow(p, c); err != nil || got != want {
				t.Fatalf("%v %s(%#x) of %v: filter answers %#x (%v), policy %#x", c.arch, c.arch.Name(int(c.nr)), c.args, p.Arch, got, err, want)
			}
			worst = max(worst, steps)
		}
		nrs := []uint32{601, 1023, 1024, 65535, 65536, 1 << 20, 1<<30 - 1, 1 << 31, 1<<32 - 1}
		for nr := range uint32(601) {
			nrs = append(nrs, nr, nr|x32Bit)
		}
		for _, nr := range nrs {
			check(call{p.Arch, nr, [6]uint64{}})
			check(call{p.Arch, nr, [6]uint64{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1}})
			for _, foreign := range []Arch{0, AMD64, ARM64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, 1<<32 - 1} {
				check(call{foreign, nr, [6]uint64{1, 1}})
			}
			if !conditioned[nr] {
				continue
			}
			for _, a := range values {
				for _, b := range values {
					for _, c := range values {
						check(call{p.Arch, nr, [6]uint64{a, b, c, 0}})
						check(call{p.Arch, nr, [6]uint64{0, b, c, a}})
					}
				}
			}
		}
		if len(f) > 144 || worst > 32 { // every spawn pays for it; OwnLimits, which few have, is the longest
			t.Errorf("%v default %#x: %d instructions, at most %d executed", p.Arch, p.Default, len(f), worst)
		}
	}
}

// Conditional jumps reach 255 instructions; a policy with large rules needs
// longer ones, and still answers right.
func TestFarJumps(t *testing.T) {
	p := &Policy{Arch: ARM64, Default: eperm, Foreign: enosys, Newest: 600}
	for nr := range uint16(18) {
		r := Rule{Name: "far", Nr: 7 * nr, Else: Errno(unix.Errno(nr + 1))}
		for v := range uint32(30) {
			r.Cases = append(r.Cases, Case{[]Cond{{Arg: 5, In: []uint32{v * 7, v*7 + 1}}, {Arg: 4, Mask: 1, In: []uint32{v & 1}}}, Errno(unix.Errno(v + 200))})
		}
		p.Rules = append(p.Rules, r)
	}
	f := compile(t, p)
	if len(f) < 2000 {
		t.Fatalf("only %d instructions: nothing is far", len(f))
	}
	for nr := range uint32(610) {
		for v := range uint64(220) {
			c := call{ARM64, nr, [6]uint64{4: v & 1, 5: v}}
			got, _, err := run(f, c)
			if want := slow(p, c); err != nil || got != want {
				t.Fatalf("%d(%d): filter answers %#x (%v), policy %#x", nr, v, got, err, want)
			}
		}
	}
	p.Rules = append(p.Rules, p.Rules...)
	for i := range p.Rules {
		p.Rules[i].Nr = uint16(i)
	}
	if _, err := p.Compile(); !errors.Is(err, ErrPolicy) {
		t.Fatalf("a filter longer than the kernel takes: %v", err)
	}
}

func TestCompileRefuses(t *testing.T) {
	base := func() *Policy { return &Policy{Arch: AMD64, Default: eperm, Newest: 10} }
	cond := func(c Cond) []Case { return []Case{{[]Cond{c}, Allow}} }
	for name, change := range map[string]func(*Policy){
		"no default":      func(p *Policy) { p.Default = Deny },
		"two rules":       func(p *Policy) { p.Rules = []Rule{{Nr: 3}, {Nr: 3}} },
		"argument 6":      func(p *Policy) { p.Rules = []Rule{{Nr: 3, Cases: cond(Cond{Arg: 6, In: zero})}} },
		"condition empty": func(p *Policy) { p.Rules = []Rule{{Nr: 3, Cases: cond(Cond{Arg: 1})}} },
	} {
		p := base()
		change(p)
		if _, err := p.Compile(); !errors.Is(err, ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := base()
	p.Arch = unix.AUDIT_ARCH_I386
	if _, err := p.Compile(); !errors.Is(err, ErrArch) {
		t.Errorf("i386: %v", err)
	}
	if _, err := Default(0, Options{}); !errors.Is(err, ErrArch) {
		t.Errorf("default for no architecture: %v", err)
	}
}

func BenchmarkDefaultAndCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		p, err := Default(AMD64, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Compile(); err != nil {
			b.Fatal(err)
		}
	}
}
