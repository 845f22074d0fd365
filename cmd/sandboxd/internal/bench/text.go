package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// text prints a figure for people: small ratios as a fraction, as contracts
// are written.
func (u Unit) text(v float64) string {
	switch u {
	case Times:
		if v > 0 && v < 0.995 {
			return fmt.Sprintf("1/%.3g", 1/v)
		}
		return fmt.Sprintf("%.2fx", v)
	case Nanoseconds:
		return duration(time.Duration(v))
	case Bytes:
		return fmt.Sprintf("%.0f KiB", v/1024)
	}
	return fmt.Sprintf("%g", v)
}

// duration has three digits that mean something and one unit per magnitude.
func duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d us", d.Round(time.Microsecond).Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// WriteText writes the table for people; parts without content are left out.
func (t *Table) WriteText(out io.Writer) error {
	f := &failing{w: out}
	fmt.Fprintf(f, "%s\n%s\n", t.Command, t.Host)
	if p := t.Plan; p.Rounds > 0 {
		fmt.Fprintf(f, "%d interleaved rounds, %d to warm up, %s between spawns, seed %d\n", p.Rounds, p.Warmup, duration(time.Duration(p.GapNS)), p.Seed)
	}
	w := tabwriter.NewWriter(f, 0, 0, 2, ' ', 0)
	if len(t.Rows) > 0 {
		fmt.Fprint(w, "\nCONTRACT\tMEASURED\tLIMIT\tHOLDS\t\n")
		for _, r := range t.Rows {
			measured, holds := "-", "not measured"
			if r.Measured != nil {
				measured, holds = r.Unit.text(*r.Measured), "no"
				if r.OK {
					holds = "yes"
				}
			}
			limit := "none"
			if r.Limit != nil {
				limit = "<= " + r.Unit.text(*r.Limit)
			} else if r.Measured != nil {
				holds = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Text, measured, limit, holds, oneLine(r.Note))
		}
		w.Flush()
	}
	if len(t.Subjects) > 0 {
		for i, s := range t.Subjects {
			if i == 0 || s.Base != t.Subjects[i-1].Base { // another run
				fmt.Fprintf(w, "\nSUBJECT\tREADY p10\tmedian\tp95\tmax\tTOTAL median\tp95\tREADY to %s\n", orNone(s.Base))
			}
			ratio := "-"
			if s.Base != "" {
				ratio = Times.text(s.ReadyRatio.PerRound)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, duration(s.Ready.P10), duration(s.Ready.Median),
				duration(s.Ready.P95), duration(s.Ready.Max), duration(s.Total.Median), duration(s.Total.P95), ratio)
		}
		w.Flush()
	}
	if len(t.Rates) > 0 {
		fmt.Fprint(w, "\nRATE\tIN FLIGHT\tSPAWNS/S\tREADY median\tp95\n")
		for _, r := range t.Rates {
			fmt.Fprintf(w, "%s\t%d\t%.0f\t%s\t%s\n", r.Name, r.InFlight, r.PerSecond, duration(r.Ready.Median), duration(r.Ready.P95))
		}
		w.Flush()
	}
	if len(t.Crowds) > 0 {
		fmt.Fprint(w, "\nLIVE\tACTORS\tIN FLIGHT\tREACHED IN\tGONE IN\tMEMORY EACH\n")
		for _, c := range t.Crowds {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", c.Name, c.Actors, c.InFlight, duration(c.Reach), duration(c.Gone), Bytes.text(float64(c.Memory.Sum())))
		}
		w.Flush()
	}
	if len(t.Places) > 0 {
		fmt.Fprint(w, "\nPLACE\tSTART median\tMEMORY\tCPU of bare\tSYSCALLS\tFILES\n")
		for _, p := range t.Places {
			start, memory := "-", "-"
			if p.Start.N > 0 {
				start = duration(p.Start.Median)
			}
			if p.Memory > 0 {
				memory = Bytes.text(float64(p.Memory))
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, start, memory,
				Times.text(p.Ratios[CPU].PerRound), Times.text(p.Ratios[Syscalls].PerRound), Times.text(p.Ratios[Files].PerRound))
		}
		w.Flush()
	}
	if len(t.Leaks) > 0 {
		fmt.Fprint(w, "\nLEAK\tBEFORE\tAFTER\tLEFT\n")
		for _, l := range t.Leaks {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", l.Kind, l.Before, l.After, l.left())
		}
		w.Flush()
	}
	if len(t.Skipped) > 0 {
		fmt.Fprintln(f)
	}
	for _, s := range t.Skipped {
		fmt.Fprintf(f, "not measured: %s: %s\n", s.Name, oneLine(s.Reason))
	}
	return f.err
}

// oneLine keeps a cell of the table in one.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// failing keeps the first error of a writer, so that printing reads as printing.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.err == nil {
		_, f.err = f.w.Write(p)
	}
	return len(p), f.err
}
