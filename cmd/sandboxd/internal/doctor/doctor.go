// Package doctor says what this host can hold: what was observed, why it
// matters, how to mend it, and what that unlocks.
//
//	facts := doctor.Observe(ctx) // looks, and spawns a few tiny actors
//	report := doctor.Judge(facts)
//	err := doctor.Text(os.Stdout, report)
//
// Looking and judging are apart, so that hosts which are not at hand can be judged
// from facts. What a backend can do is found out by doing it.
//
// Non-goals: mending anything, and looking at programs that actors might run.
package doctor

// Schema versions the JSON form of Report.
const Schema = "sandboxd.doctor/v1"

// State is how good a finding is.
type State string

// The states.
const (
	OK      State = "ok"
	Weak    State = "weak"    // sandboxd runs, with less than it could hold
	Missing State = "missing" // what Unlocks names does not work
	Info    State = "info"    // neither good nor bad
)

// Finding is one answer.
type Finding struct {
	Name     string   `json:"name"` // stable, such as "native/userns"
	State    State    `json:"state"`
	Observed string   `json:"observed"`
	Why      string   `json:"why"`               // why it matters
	Fix      string   `json:"fix,omitempty"`     // how to mend it; "" where nothing needs mending or nothing can
	Unlocks  []string `json:"unlocks,omitempty"` // backends and flags that need it
}

// checks turn facts into findings, in the order in which people read them. They do not look at the host.
var checks = []func(*Facts) []Finding{
	kernel, place, lease, backends, cgroups, landlocked, filters, subordinate, roots, clocks, swap, memfd, ulimits,
}

// Report is the result of all checks.
type Report struct {
	Schema   string    `json:"schema"`
	Works    bool      `json:"works"`   // the default backend starts programs here
	Backend  string    `json:"backend"` // the default one
	Findings []Finding `json:"findings"`
	Matrix   []Ability `json:"matrix"`
}

// Ability is one row of the matrix of backends.
type Ability struct {
	Name string           `json:"name"` // a feature
	Why  string           `json:"why"`  // what it is good for
	Held map[string]State `json:"held"` // by backend: ok, weak or missing; one that it is not in has no such thing
}

// Judge runs all checks.
func Judge(f *Facts) *Report {
	r := &Report{Schema: Schema, Backend: defaultBackend, Works: f.works(defaultBackend)}
	for _, check := range checks {
		r.Findings = append(r.Findings, check(f)...)
	}
	r.Matrix = matrix(f)
	return r
}
