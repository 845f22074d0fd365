package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Action is the answer to a system call: a SECCOMP_RET value as in seccomp(2).
// The zero value is [Deny].
type Action uint32

const (
	// Deny is whatever the policy answers to a call that it does not name:
	// [Policy.Default].
	Deny Action = 0
	// Allow lets the call run.
	Allow Action = unix.SECCOMP_RET_ALLOW
	// Notify stops the caller and tells the owner of the listener. Where no
	// listener is left, the call fails with ENOSYS.
	Notify Action = unix.SECCOMP_RET_USER_NOTIF

	eperm           = Action(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	enosys          = Action(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	eafnosupport    = Action(unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT))
	eprotonosupport = Action(unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT))
)

// Errno makes the call fail with e without running it.
func Errno(e unix.Errno) Action {
	return Action(unix.SECCOMP_RET_ERRNO | uint32(e)&unix.SECCOMP_RET_DATA)
}

// Policy says which answer every system call gets. It is plain data: it can be
// printed, compared and changed before [Policy.Compile].
type Policy struct {
	Arch    Arch
	Default Action   // answer to known numbers that are not named below; not Deny
	Foreign Action   // answer to every call of another ABI, x32 included; Deny is Default
	Newest  uint16   // numbers above it get ENOSYS, being newer than the policy
	Allow   []uint16 // numbers allowed whatever their arguments; shared by all policies, replace but do not write
	Rules   []Rule   // at most one per number; a rule wins over Allow
}

// Rule is the answer to one system call by its arguments: that of the first
// case that holds, or else Else.
type Rule struct {
	Name  string // for people; the filter is made from Nr
	Nr    uint16
	Cases []Case
	Else  Action
}

// Case holds when all its conditions do.
type Case struct {
	If   []Cond
	Then Action
}

// Cond holds when argument Arg, cut to 32 bits and masked, is one of In.
// A zero Mask is all 32 bits.
type Cond struct {
	Arg  uint8 // 0 to 5
	Mask uint32
	In   []uint32
}

// Options change the default policy. The zero value is the default.
type Options struct {
	// Kill makes [Notify] the answer to what is denied, instead of EPERM.
	Kill bool
	// NoInet leaves only AF_UNIX sockets, for programs that share a network
	// namespace with others. The rest fails with EAFNOSUPPORT.
	NoInet bool
	// NoAffinity makes sched_setaffinity fail with EPERM, for programs that are
	// held to their processors by affinity and not by a cpuset.
	NoAffinity bool
	// OwnLimits makes prlimit64 and setpriority fail with EPERM for whatever is
	// not the caller itself, for programs whose user id is not theirs alone.
	OwnLimits bool
}

// Default returns the policy that the package comment describes. It fails for
// an architecture without a table.
func Default(a Arch, o Options) (*Policy, error) {
	t := a.table()
	if t == nil {
		return nil, fmt.Errorf("seccomp: default policy for %v: %w", a, ErrArch)
	}
	p := &Policy{Arch: a, Default: eperm, Foreign: enosys, Newest: t.newest, Allow: t.allow}
	if o.Kill {
		p.Default, p.Foreign = Notify, Deny
	}
	p.Rules = make([]Rule, 0, len(rules)+1)
	for _, r := range rules {
		if o.NoInet && r.Name == "socket" {
			r = unixOnly
		}
		p.add(r)
	}
	if o.NoAffinity {
		p.add(Rule{Name: "sched_setaffinity", Else: eperm})
	}
	if o.OwnLimits {
		p.add(Rule{Name: "prlimit64", Cases: []Case{{[]Cond{{Arg: 0, In: zero}}, Allow}}, Else: eperm})
		p.add(Rule{Name: "setpriority", Cases: []Case{{[]Cond{{Arg: 0, In: zero}, {Arg: 1, In: zero}}, Allow}}, Else: eperm}) // PRIO_PROCESS is 0
	}
	return p, nil
}

// add appends r under its number; an architecture that lacks the call (arm64
// has no chmod) needs no rule for it.
func (p *Policy) add(r Rule) {
	if nr, ok := p.Arch.Number(r.Name); ok {
		r.Nr = uint16(nr)
		p.Rules = append(p.Rules, r)
	}
}
