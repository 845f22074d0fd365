package bench

import (
	"encoding/json"
	"fmt"
	"io"
)

// Schema versions the JSON form of a Table.
const Schema = "sandboxd.bench/v1"

// Metric says which of the two times of a Sample is meant.
type Metric int

// The metrics.
const (
	Ready Metric = iota
	Total
)

func (m Metric) String() string {
	if m == Total {
		return "total"
	}
	return "ready"
}

func (r *Result) series(m Metric) Series {
	if m == Total {
		return r.Total
	}
	return r.Ready
}

// Unit is what a Row's figures are in.
type Unit string

// The units.
const (
	Times       Unit = "ratio"
	Nanoseconds Unit = "ns"
	Bytes       Unit = "bytes"
	Things      Unit = "count"
)

// Row is one contract: what was measured, and what it must not exceed.
type Row struct {
	ID       string   `json:"id"`
	Text     string   `json:"text"`
	Unit     Unit     `json:"unit"`
	Measured *float64 `json:"measured"` // nil: not measured, and Note says why
	Limit    *float64 `json:"limit"`    // nil: none is claimed
	OK       bool     `json:"ok"`       // measured, and at most Limit
	Note     string   `json:"note,omitempty"`
}

// AtMost is a Row about a figure that was measured.
func AtMost(id, text string, unit Unit, measured, limit float64, note string) Row {
	return Row{ID: id, Text: text, Unit: unit, Measured: &measured, Limit: &limit, OK: measured <= limit, Note: note}
}

// Figure is a Row about a figure that nothing is claimed of.
func Figure(id, text string, unit Unit, measured float64, note string) Row {
	return Row{ID: id, Text: text, Unit: unit, Measured: &measured, OK: true, Note: note}
}

// NotMeasured is a Row without a figure: not met, and not missed either.
func NotMeasured(id, text string, unit Unit, limit float64, why string) Row {
	return Row{ID: id, Text: text, Unit: unit, Limit: &limit, Note: why}
}

// Ratio is a Row that compares two subjects of the run; measured is the median
// of the ratios inside each round. A subject that was skipped makes it NotMeasured.
func (r *Run) Ratio(id, text string, m Metric, subject, base string, limit float64) Row {
	a, b := r.find(subject), r.find(base)
	for _, x := range []struct {
		name  string
		found *Result
	}{{subject, a}, {base, b}} {
		if x.found == nil {
			return NotMeasured(id, text, Times, limit, r.whyNot(x.name))
		}
	}
	ratio := a.series(m).RatioTo(b.series(m))
	as, bs := a.series(m).Stats(), b.series(m).Stats()
	note := fmt.Sprintf("%s of %s %s, of %s %s; ratio of medians %s", m, subject, Nanoseconds.text(float64(as.Median)),
		base, Nanoseconds.text(float64(bs.Median)), Times.text(ratio.OfMedians))
	return AtMost(id, text, Times, ratio.PerRound, limit, note)
}

func (r *Run) whyNot(name string) string {
	for _, s := range r.Skipped {
		if s.Name == name {
			return s.Reason
		}
	}
	return name + " took no part in this run"
}

// Summary is one subject of a run in figures.
type Summary struct {
	Name  string `json:"name"`
	Ready Stats  `json:"ready"`
	Total Stats  `json:"total"`
	Base  string `json:"base,omitempty"` // what the ratios are to
	// ReadyRatio and TotalRatio are zero without a base.
	ReadyRatio Ratio `json:"ready_ratio"`
	TotalRatio Ratio `json:"total_ratio"`
}

// Summaries gives all subjects with ratios to the base, which may be "".
func (r *Run) Summaries(base string) []Summary {
	var all []Summary
	b := r.find(base)
	for _, res := range r.Results {
		s := Summary{Name: res.Name, Ready: res.Ready.Stats(), Total: res.Total.Stats()}
		if b != nil {
			s.Base, s.ReadyRatio, s.TotalRatio = base, res.Ready.RatioTo(b.Ready), res.Total.RatioTo(b.Total)
		}
		all = append(all, s)
	}
	return all
}

// Plan is the part of Options that figures depend on.
type Plan struct {
	Rounds int    `json:"rounds"`
	Warmup int    `json:"warmup"`
	GapNS  int64  `json:"gap_ns"`
	Seed   uint64 `json:"seed"`
}

// Table is everything that a bench prints. Its JSON is the schema.
type Table struct {
	Schema   string    `json:"schema"`
	Command  string    `json:"command"` // that makes these figures
	Host     Host      `json:"host"`
	Plan     Plan      `json:"plan"`
	Rows     []Row     `json:"contracts"`
	Subjects []Summary `json:"subjects"`
	Skipped  []Skipped `json:"skipped"`
	Rates    []Rate    `json:"rates"`
	Crowds   []Crowd   `json:"live"`
	Leaks    []Leak    `json:"leaks"`
	Places   []Place   `json:"places"`
}

// NewTable is empty but for the facts.
func NewTable(h Host, command string) *Table {
	return &Table{
		Schema: Schema, Command: command, Host: h,
		Rows: []Row{}, Subjects: []Summary{}, Skipped: []Skipped{}, Rates: []Rate{}, Crowds: []Crowd{}, Leaks: []Leak{}, Places: []Place{},
	}
}

// AddRun adds the subjects of a run, with ratios to the base ("" for none).
func (t *Table) AddRun(r *Run, base string) {
	t.Plan = Plan{r.Options.Rounds, r.Options.Warmup, r.Options.Gap.Nanoseconds(), r.Options.Seed}
	t.Subjects = append(t.Subjects, r.Summaries(base)...)
	t.Skipped = append(t.Skipped, r.Skipped...)
}

// Missed counts the contracts that were measured and do not hold.
func (t *Table) Missed() int {
	n := 0
	for _, r := range t.Rows {
		if r.Measured != nil && !r.OK {
			n++
		}
	}
	return n
}

// WriteJSON writes the table as one indented JSON value.
func (t *Table) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(t)
}
