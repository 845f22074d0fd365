package abuse

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Schema versions the JSON form of Matrix.
const Schema = "sandboxd.selftest/v1"

// Matrix is what happened.
type Matrix struct {
	Schema     string      `json:"schema"`
	Backends   []string    `json:"backends"`
	Skipped    []Skipped   `json:"skipped,omitempty"`
	Cases      []Row       `json:"cases"`
	Neighbours []Neighbour `json:"neighbours"`
}

// Skipped is a backend that was not attacked, and why.
type Skipped struct {
	Backend string `json:"backend"`
	Why     string `json:"why"`
}

// Row is one case on all backends.
type Row struct {
	ID      string  `json:"id"`
	Says    string  `json:"says"`
	Ref     string  `json:"ref,omitempty"`
	Cells   []Cell  `json:"cells"`
	Control Control `json:"control"`
}

// Cell is one case on one backend.
type Cell struct {
	Backend  string   `json:"backend"`
	Outcome  string   `json:"outcome"`
	Want     []string `json:"want"`     // on this host
	Declared string   `json:"declared"` // on all
	Surprise bool     `json:"surprise"` // Outcome is not in Want
	Open     bool     `json:"open"`     // as declared, nothing stops it
	Detail   string   `json:"detail,omitempty"`
}

// Control is the attack without the wall.
type Control struct {
	Outcome string `json:"outcome,omitempty"`
	Shown   bool   `json:"shown"`
	Why     string `json:"why,omitempty"` // there is no control
}

// Neighbour is what an actor felt of a bomb beside it.
type Neighbour struct {
	Backend string        `json:"backend"`
	Bomb    string        `json:"bomb"` // "" is none
	P99     time.Duration `json:"p99_ns"`
	Median  time.Duration `json:"median_ns"`
	Loops   int           `json:"loops"`
	Harmed  bool          `json:"harmed"` // P99 is above the bound
}

// Surprises are what was not as declared, in words; empty: all was.
func (m *Matrix) Surprises() (all []string) {
	for _, r := range m.Cases {
		for _, c := range r.Cells {
			if !c.Surprise {
				continue
			}
			s := fmt.Sprintf("%s on %s: %s, want %s", r.ID, c.Backend, c.Outcome, strings.Join(c.Want, " or "))
			if c.Detail != "" {
				s += ": " + c.Detail
			}
			all = append(all, s)
		}
	}
	for _, n := range m.Neighbours {
		if n.Harmed {
			all = append(all, fmt.Sprintf("a neighbour on %s beside %s: its worst hundredth took %v, want at most %v", n.Backend, n.Bomb, n.P99, bound))
		}
	}
	return all
}

// Unshown are the cases whose control was tried and did not get through.
func (m *Matrix) Unshown() (all []string) {
	for _, r := range m.Cases {
		if c := r.Control; c.Outcome != "" && !c.Shown {
			all = append(all, r.ID+": "+c.Outcome)
		}
	}
	return all
}

// JSON prints a Matrix as one line.
func (m *Matrix) JSON(w io.Writer) error { return json.NewEncoder(w).Encode(m) }

// Text prints a Matrix for people.
func (m *Matrix) Text(w io.Writer) error {
	var b strings.Builder
	controlled := slices.ContainsFunc(m.Cases, func(r Row) bool { return r.Control != Control{} })
	blocked, open := 0, 0
	for _, class := range Classes() {
		rows := slices.DeleteFunc(slices.Clone(m.Cases), func(r Row) bool { return !strings.HasPrefix(r.ID, class[0]+"/") })
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n  %-32s", class[0], class[1], "")
		for _, name := range m.Backends {
			fmt.Fprintf(&b, " %-18s", name)
		}
		if controlled {
			b.WriteString(" without the wall")
		}
		b.WriteString("\n")
		for _, r := range rows {
			fmt.Fprintf(&b, "  %-32s", r.ID)
			for _, c := range r.Cells {
				word := c.Outcome
				switch {
				case c.Surprise:
					word = "SURPRISE " + c.Outcome
				case c.Open:
					word, open = "open, as declared", open+1
				default:
					blocked++
				}
				fmt.Fprintf(&b, " %-18s", word)
			}
			switch c := r.Control; {
			case c.Shown:
				b.WriteString(" " + c.Outcome)
			case c.Outcome != "":
				b.WriteString(" not shown here: " + c.Outcome)
			case c.Why != "":
				b.WriteString(" -")
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	for _, s := range m.Skipped {
		fmt.Fprintf(&b, "not run: %s: %s\n", s.Backend, s.Why)
	}
	if len(m.Neighbours) > 0 {
		fmt.Fprintf(&b, "A neighbour's small loop beside each bomb (worst hundredth at most %v)\n", bound)
		for _, n := range m.Neighbours {
			beside := n.Bomb
			if beside == "" {
				beside = "nothing"
			}
			fmt.Fprintf(&b, "  %-8s beside %-24s p99 %8v   median %8v   %d loops\n", n.Backend, beside, n.P99.Round(time.Microsecond), n.Median.Round(time.Microsecond), n.Loops)
		}
		b.WriteString("\n")
	}
	surprises := m.Surprises()
	for _, s := range surprises {
		fmt.Fprintf(&b, "SURPRISE: %s\n", s)
	}
	fmt.Fprintf(&b, "%d attacks stopped as declared, %d open as declared, %d surprises.\n", blocked, open, len(surprises))
	_, err := io.WriteString(w, b.String())
	return err
}
