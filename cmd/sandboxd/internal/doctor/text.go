package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"sandboxd/sandbox"
)

// Text prints a report for people: what is not well first, then the rest in short.
func Text(w io.Writer, r *Report) error {
	var b strings.Builder
	verdict := "works here"
	if !r.Works {
		verdict = "does not work here"
	}
	fmt.Fprintf(&b, "The default backend, %s, %s.\n", r.Backend, verdict)
	for _, section := range []struct {
		state State
		title string
	}{{Missing, "Does not work"}, {Weak, "Works with less"}} {
		together := group(r.Findings, section.state)
		if len(together) > 0 {
			fmt.Fprintf(&b, "\n%s\n", section.title)
		}
		for _, same := range together {
			tell(&b, same)
		}
	}
	names := r.matrix(&b)
	b.WriteString("\nAll checks\n")
	for _, f := range r.Findings {
		if backend, _, _ := strings.Cut(f.Name, "/"); slices.Contains(names, backend) {
			continue // the matrix has it
		}
		fmt.Fprintf(&b, "  %-8s%-26s %s\n", f.State, f.Name, f.brief())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// matrix prints what each backend holds, and returns their names.
func (r *Report) matrix(b *strings.Builder) (names []string) {
	for _, row := range r.Matrix {
		for name := range row.Held {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if names == nil {
		return nil
	}
	slices.Sort(names)
	fmt.Fprintf(b, "\nBackends (-: not this one's)\n  %-17s", "")
	for _, name := range names {
		fmt.Fprintf(b, "%-10s", name)
	}
	fmt.Fprintf(b, "\n  %-17s", "--isolation")
	for _, name := range names {
		fmt.Fprintf(b, "%-10s", sandbox.Reaches(name))
	}
	b.WriteString(" the highest floor that it reaches\n")
	for _, row := range r.Matrix {
		fmt.Fprintf(b, "  %-17s", row.Name)
		for _, name := range names {
			state := row.Held[name]
			if state == "" {
				state = "-"
			}
			fmt.Fprintf(b, "%-10s", state)
		}
		fmt.Fprintf(b, " %s\n", row.Why)
	}
	return names
}

// group puts findings together that have one cause and one remedy.
func group(all []Finding, state State) (groups [][]Finding) {
	for _, f := range all {
		if f.State != state {
			continue
		}
		i := slices.IndexFunc(groups, func(g []Finding) bool {
			return g[0].Observed == f.Observed && g[0].Fix == f.Fix && slices.Equal(g[0].Unlocks, f.Unlocks)
		})
		if i < 0 {
			groups = append(groups, []Finding{f})
			continue
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}

func tell(b *strings.Builder, same []Finding) {
	var names, whys []string
	for _, f := range same {
		names, whys = append(names, f.Name), append(whys, f.Why)
	}
	fmt.Fprintf(b, "  %s\n      observed: %s\n      why:      %s\n", strings.Join(names, ", "), same[0].Observed, strings.Join(whys, "; "))
	if same[0].Fix != "" {
		fmt.Fprintf(b, "      fix:      %s\n", same[0].Fix)
	}
	if len(same[0].Unlocks) > 0 {
		fmt.Fprintf(b, "      unlocks:  %s\n", strings.Join(same[0].Unlocks, ", "))
	}
}

// brief says why an ok finding matters; the others were told in full.
func (f Finding) brief() string {
	switch f.State {
	case OK, Info:
		return f.Observed + " (" + f.Why + ")"
	}
	return "see above"
}
