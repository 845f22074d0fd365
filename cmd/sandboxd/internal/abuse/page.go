package abuse

import (
	"fmt"
	"io"
	"strings"
)

// Page writes docs/abuse.md: every case with what is declared of it.
func Page(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# Attacks, and what each backend does about them

Written by ` + "`sandboxd selftest --list`" + `. ` + "`sandboxd selftest`" + ` runs all of it on your host, but for ` + "`microvm`" + `, which must be named; ` + "`--control`" + ` also shows that each attack
works where the wall is not.

A cell has the outcomes of which one is expected: an errno, the reason in the report, or a word. ` + "`OK`" + ` means that nothing
stops it: no boundary, and the text says why. *Without* says what is so on a host that lacks something: ` + "`own-ids`" + ` (for an ordinary
user without subordinate ids the init and the program are that user), ` + "`landlock-scopes`" + ` (a kernel before 6.12), ` + "`landlock-truncate`" + ` (before 6.2), ` + "`exec-seals`" + ` (before 6.3), ` + "`idmapped-mounts`" + ` (TMPDIR
on tmpfs before 6.3), ` + "`cgroup-memory`" + ` and the like (no such controller, or none
delegated). With ` + "`microvm`" + ` it is the guest's kernel that has or lacks them. There is no column of ` + "`wasm`" + `: a module has no
system calls to attack with. What modules try, the tests of ` + "`spawn/wasm`" + ` do (TestAttacks and those beside it).
`)
	cols := columns()
	for _, class := range Classes() {
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n| case | attack |", class[0], strings.ToUpper(class[1][:1])+class[1][1:])
		for _, c := range cols {
			fmt.Fprintf(&b, " %s |", c.backend)
		}
		b.WriteString(" without the wall |\n|---|---|" + strings.Repeat("---|", len(cols)) + "---|\n")
		for _, c := range Cases() {
			if c.Class() != class[0] {
				continue
			}
			says := c.Says
			if c.Ref != "" {
				says += " (" + c.Ref + ")"
			}
			fmt.Fprintf(&b, "| `%s` | %s |", c.ID, cellText(says))
			for i := range cols {
				fmt.Fprintf(&b, " %s |", cellText(declared(cols[i].want(&c))))
			}
			fmt.Fprintf(&b, " %s |\n", cellText(c.without()))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// declared is an expectation for people.
func declared(want string) string {
	want, why, _ := strings.Cut(want, "#")
	text := strings.ReplaceAll(strings.TrimSpace(want), "|", " or ")
	if why != "" {
		text += " (" + strings.TrimSpace(why) + ")"
	}
	return text
}

// without is where a case's control runs.
func (c *Case) without() string {
	switch {
	case c.NoControl != "":
		return "none: " + c.NoControl
	case c.Run != nil:
		return "the same without the trap"
	case c.Opened != nil:
		return "a sandbox with a higher limit"
	case c.OnHost:
		return "a process outside"
	}
	return "throw-away namespaces"
}

func cellText(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "\\<", "\n", " ").Replace(s)
}
