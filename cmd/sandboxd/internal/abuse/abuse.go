// Package abuse attacks the sandboxes of this host from inside, and holds what
// happens against what each backend is declared to do about it.
//
//	suite, err := abuse.Open(abuse.Options{Backends: []string{"native"}, Control: true})
//	if err != nil {
//		return err
//	}
//	defer suite.Close()
//	matrix, err := suite.Run(ctx)
//	err = errors.Join(err, matrix.Text(os.Stdout))
//
// The attacker is the sandboxd binary itself, run as an actor, so a host needs
// no compiler to be verified. A case is a row, a backend a column: a backend
// that is new takes an entry in columns, with what it does otherwise than most.
//
// A case that cannot fail proves nothing. Its control is the same attack
// without the wall: outside of a sandbox, in throw-away namespaces, or in a
// sandbox that an option opened.
//
// Non-goals: bugs of the kernel, side channels but the plainest, and programs
// that speak the protocol badly (the tests of ipc and sandbox do that).
package abuse

import (
	"fmt"
	"slices"
	"strings"

	"sandboxd/sandbox"
)

// Case is one attack.
type Case struct {
	ID   string // class/name; the classes are in Classes
	Says string // the attack in words
	Ref  string // what it is known from, such as a CVE

	// Want is what happens on every backend whose column says nothing else: see expect.
	Want string

	// Attack runs inside. nil means that it got through; a word or an errno says what stopped it.
	Attack func(args []string) error
	// Stage prepares the host and the Spec, and gives Attack its arguments. Nil: nothing to prepare.
	Stage func(*stage) error
	// Judge has the last word on the outcome, from the host's side. Nil: Attack's word and the report's.
	Judge func(s *stage, outcome string, r *sandbox.Report) string
	// Run does all of the above itself, where the attack is not a program's. With stage.control it leaves the attack out.
	Run func(*stage) (string, error)

	// One of these is the control; without any, Attack runs in throw-away namespaces.
	OnHost    bool                // it runs in the host's, but for mounts, as what it attacks is there
	Opened    func(*sandbox.Spec) // it runs in a sandbox with this done to its Spec
	NoControl string              // there is none, and this is why
}

// Class is the part of the ID before the slash.
func (c *Case) Class() string {
	class, _, _ := strings.Cut(c.ID, "/")
	return class
}

// Classes are what cases are about, in the order of the matrix.
func Classes() [][2]string {
	return [][2]string{
		{"kernel", "system calls that open the kernel"},
		{"namespace", "new namespaces, and those of others"},
		{"filesystem", "mounts, roots, and files of the host and the kernel"},
		{"process", "other processes, privileges and the init"},
		{"network", "sockets, families and the host's services"},
		{"ipc", "shared memory, queues, locks and terminals"},
		{"leak", "what the caller has open, and what stays behind"},
		{"setup", "traps for the supervisor while it builds the sandbox"},
		{"handshake", "the connection between program and supervisor"},
		{"resource", "bombs, and whether the report names the limit"},
	}
}

// Cases are all attacks, in the order of the classes.
func Cases() []Case {
	all := slices.Concat(kernelCases(), archCases(), namespaceCases(), fileCases(), processCases(), networkCases(), ipcCases(), leakCases(), setupCases(), handshakeCases(), resourceCases())
	var order []string
	for _, c := range Classes() {
		order = append(order, c[0])
	}
	slices.SortStableFunc(all, func(a, b Case) int { return slices.Index(order, a.Class()) - slices.Index(order, b.Class()) })
	return all
}

// column is what one backend does otherwise than a Case's Want says.
type column struct {
	backend string
	except  map[string]string // by the ID of a case, or by a prefix of it that ends in "*"

	// Of a machine of the actor's own.
	facts  map[string]bool // what its kernel has, whatever the host's has; see expect
	slow   int             // how many times slower it is; it is then attacked only where it is named
	memory int64           // bytes of its limit that are not the program's
}

// columnOf is a backend's column; without one it is as most.
func columnOf(backend string) column {
	cols := columns()
	if i := slices.IndexFunc(cols, func(c column) bool { return c.backend == backend }); i >= 0 {
		return cols[i]
	}
	return column{backend: backend}
}

// want is what a backend is declared to do about a case.
func (col *column) want(c *Case) string {
	if w, ok := col.except[c.ID]; ok {
		return w
	}
	best := ""
	for key := range col.except {
		if prefix, ok := strings.CutSuffix(key, "*"); ok && strings.HasPrefix(c.ID, prefix) && len(key) > len(best) {
			best = key
		}
	}
	if best != "" {
		return col.except[best]
	}
	return c.Want
}

// expect reads a declared outcome: alternatives, then what is so where the host
// and the backend lack something, or all of several things, and why, for people:
//
//	EPERM; without own-ids and landlock-scopes: no effect # the program has the init's id
func expect(want string, has func(string) bool) (outcomes []string, err error) {
	want, _, _ = strings.Cut(want, "#")
	for clause := range strings.SplitSeq(want, ";") {
		clause = strings.TrimSpace(clause)
		if rest, ok := strings.CutPrefix(clause, "without "); ok {
			what, then, ok := strings.Cut(rest, ": ")
			if !ok {
				return nil, fmt.Errorf("expected outcome %q: no colon after what is lacking", want)
			}
			if slices.ContainsFunc(strings.Split(what, " and "), has) {
				continue
			}
			clause = then
		}
		outcomes = strings.Split(clause, "|")
	}
	return outcomes, nil
}

// Through is the outcome of an attack that nothing stopped.
const Through = "OK"

// within says whether an outcome, or each of several, is one of the declared ones.
func within(outcome string, outcomes []string) bool {
	for one := range strings.SplitSeq(outcome, ",") {
		if !slices.Contains(outcomes, one) {
			return false
		}
	}
	return true
}
