package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Filter is a compiled policy, ready for struct sock_fprog.
type Filter []unix.SockFilter

// Bytes returns the filter as the array of struct sock_filter that the kernel
// reads, 8 bytes for each instruction. Every architecture with a table is
// little-endian.
func (f Filter) Bytes() []byte {
	b := make([]byte, 0, 8*len(f))
	for _, in := range f {
		b = binary.LittleEndian.AppendUint16(b, in.Code)
		b = append(b, in.Jt, in.Jf)
		b = binary.LittleEndian.AppendUint32(b, in.K)
	}
	return b
}

// Compile translates the policy. The filter checks the ABI, then finds the
// number by binary search over ranges of numbers with the same answer, then
// tests arguments. Each installation, so each spawn, pays for both shape and
// length: the kernel translates the filter, and runs it once for every number to
// learn which ones it allows always (kernel/seccomp.c, seccomp_cache_prepare).
// See BenchmarkInstall.
func (p *Policy) Compile() (Filter, error) {
	segs, err := p.segments()
	if err != nil {
		return nil, fmt.Errorf("seccomp: compile for %v: %w", p.Arch, err)
	}
	c := compiler{policy: p, out: make(Filter, 0, 512), rets: make(map[Action]int, 8), tests: make(map[test]int, 32)}
	c.tree(segs)
	load := c.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offNr)
	c.branch(unix.BPF_JEQ, uint32(p.Arch), load, c.ret(p.Foreign))
	c.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offArch)
	if len(c.out) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("seccomp: compile for %v: %w: %d instructions, the kernel takes %d", p.Arch, ErrPolicy, len(c.out), unix.BPF_MAXINSNS)
	}
	slices.Reverse(c.out)
	return c.out, nil
}

// Offsets in struct seccomp_data of <linux/seccomp.h>. Arguments are 64 bits
// each, their lower half comes first.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// segment is a range of numbers, from first to the next segment, with one answer.
type segment struct {
	first  uint32
	leaf   leaf
	except []segment // single numbers amid it: one comparison each, where a range takes two
}

// leaf is an answer: a rule with cases, or else an action.
type leaf struct {
	action Action
	rule   *Rule // nil unless the answer depends on arguments
}

// segments lays the answers out over all numbers, merges equal neighbours, and
// equal ranges around a single number.
func (p *Policy) segments() ([]segment, error) {
	if p.Arch.table() == nil {
		return nil, ErrArch
	}
	if p.Default == Deny {
		return nil, fmt.Errorf("%w: no default answer", ErrPolicy)
	}
	top := p.Newest
	for _, nr := range p.Allow {
		top = max(top, nr)
	}
	for i := range p.Rules {
		top = max(top, p.Rules[i].Nr)
	}
	leaves := make([]leaf, int(top)+1)
	for nr := range leaves {
		leaves[nr].action = p.Default
		if nr > int(p.Newest) {
			leaves[nr].action = enosys
		}
	}
	for _, nr := range p.Allow {
		leaves[nr].action = Allow
	}
	seen := make([]bool, len(leaves))
	for i := range p.Rules {
		r := &p.Rules[i]
		if seen[r.Nr] {
			return nil, fmt.Errorf("%w: two rules for %s", ErrPolicy, p.Arch.Name(int(r.Nr)))
		}
		seen[r.Nr] = true
		if err := r.check(); err != nil {
			return nil, err
		}
		leaves[r.Nr] = leaf{action: p.answer(r.Else)}
		if len(r.Cases) > 0 {
			leaves[r.Nr].rule = r
		}
	}
	segs := make([]segment, 0, 128)
	for nr, l := range leaves {
		n := len(segs)
		switch {
		case n > 0 && l == segs[n-1].leaf:
		case n > 1 && l == segs[n-2].leaf && segs[n-1].first+1 == uint32(nr) && len(segs[n-2].except) < chain:
			segs[n-2].except = append(segs[n-2].except, segs[n-1])
			segs = segs[:n-1]
		default:
			segs = append(segs, segment{first: uint32(nr), leaf: l})
		}
	}
	segs = append(segs, segment{first: uint32(top) + 1, leaf: leaf{action: enosys}})
	if p.Arch == AMD64 {
		segs = append(segs, segment{first: x32Bit, leaf: leaf{action: p.answer(p.Foreign)}})
	}
	return segs, nil
}

func (r *Rule) check() error {
	for _, c := range r.Cases {
		for _, cond := range c.If {
			if cond.Arg > 5 || len(cond.In) == 0 {
				return fmt.Errorf("%w: rule for %s: a condition needs an argument from 0 to 5 and a value", ErrPolicy, r.Name)
			}
		}
	}
	return nil
}

func (p *Policy) answer(a Action) Action {
	if a == Deny {
		return p.Default
	}
	return a
}

// compiler writes the filter from its last instruction to its first, because
// jumps go forward only: a target is then always written, and its distance
// known, before the jump. A label is the length of out just after its
// instruction was written.
type compiler struct {
	policy *Policy
	out    Filter
	rets   map[Action]int // label of the last return of each answer
	tests  map[test]int   // and of each condition
}

// test is a condition and where it leads. Values are told apart by where they
// lie: rules that look alike share them.
type test struct {
	arg     uint8
	mask    uint32
	in      *uint32
	n       int
	yes, no int
}

// chain is how many single numbers of a segment are looked for one after another.
const chain = 3

// reach is the longest distance a conditional jump is asked for: less than its
// 8 bits hold, so that far may write two instructions in between.
const reach = 250

func (c *compiler) emit(code uint16, k uint32) int {
	c.out = append(c.out, unix.SockFilter{Code: code, K: k})
	return len(c.out)
}

// ret returns from the filter with an answer, sharing an instruction in reach.
func (c *compiler) ret(a Action) int {
	a = c.policy.answer(a)
	if l, ok := c.rets[a]; ok && len(c.out)-l <= reach {
		return l
	}
	c.rets[a] = c.emit(unix.BPF_RET|unix.BPF_K, uint32(a))
	return c.rets[a]
}

// far returns label or, when it is out of reach, a jump to it.
func (c *compiler) far(label int) int {
	if d := len(c.out) - label; d > reach {
		return c.emit(unix.BPF_JMP|unix.BPF_JA, uint32(d))
	}
	return label
}

func (c *compiler) branch(op uint16, k uint32, yes, no int) int {
	yes, no = c.far(yes), c.far(no)
	n := len(c.out)
	c.out = append(c.out, unix.SockFilter{
		Code: unix.BPF_JMP | op | unix.BPF_K, Jt: uint8(n - yes), Jf: uint8(n - no), K: k,
	})
	return n + 1
}

// tree expects the number in the accumulator.
func (c *compiler) tree(segs []segment) int {
	if len(segs) == 1 {
		label := c.leaf(segs[0].leaf)
		for _, e := range segs[0].except {
			label = c.branch(unix.BPF_JEQ, e.first, c.leaf(e.leaf), label)
		}
		return label
	}
	mid := len(segs) / 2
	upper := c.tree(segs[mid:])
	lower := c.tree(segs[:mid])
	return c.branch(unix.BPF_JGE, segs[mid].first, upper, lower)
}

func (c *compiler) leaf(l leaf) int {
	if l.rule == nil {
		return c.ret(l.action)
	}
	r := l.rule
	next := c.ret(r.Else)
	for _, cs := range slices.Backward(r.Cases) {
		label := c.ret(cs.Then)
		for _, cond := range slices.Backward(cs.If) {
			label = c.cond(cond, label, next)
		}
		next = label
	}
	return next
}

// cond tests an argument, sharing the code of an equal test in reach.
func (c *compiler) cond(cond Cond, yes, no int) int {
	key := test{cond.Arg, cond.Mask, &cond.In[0], len(cond.In), yes, no}
	if l, ok := c.tests[key]; ok && len(c.out)-l <= reach {
		return l
	}
	for _, v := range slices.Backward(cond.In) {
		no = c.branch(unix.BPF_JEQ, v, yes, no)
	}
	if cond.Mask != 0 {
		c.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, cond.Mask)
	}
	c.tests[key] = c.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offArgs+8*uint32(cond.Arg))
	return c.tests[key]
}
