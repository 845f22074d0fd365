package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sampleTable() *Table {
	ms := time.Millisecond
	run := &Run{
		Options: Options{Rounds: 2, Warmup: 1, Gap: 1500 * time.Microsecond, Seed: 42},
		Results: []Result{
			{"ours", Series{1 * ms, 2 * ms}, Series{2 * ms, 3 * ms}},
			{"bwrap", Series{4 * ms, 5 * ms}, Series{5 * ms, 6 * ms}},
		},
		Skipped: []Skipped{{"runc", "bench: runc cannot be measured here: install runc"}},
	}
	t := NewTable(Host{
		Kernel: "6.1.0", Arch: "amd64", CPUs: 2, Cgroup: "hybrid", Go: "go1.26", Load: [3]float64{0.5, 0.25, 0.125},
		Peers: []Peer{{"bwrap", "bubblewrap 0.8.0"}, {"bwrap true", "bubblewrap 0.8.0"}},
	}, "sandboxd bench --rounds 2")
	t.AddRun(run, "bwrap")
	flat := Series{2 * ms, 2 * ms}
	t.AddRun(&Run{Options: run.Options, Results: []Result{{"ours run", Series{3 * ms, 3 * ms}, Series{3 * ms, 3 * ms}}, {"bwrap true", flat, flat}}}, "bwrap true")
	t.Rows = append(
		t.Rows,
		run.Ratio("cold-bwrap", "cold spawn", Ready, "ours", "bwrap", 1.0/3),
		run.Ratio("cold-ready", "cold spawn, hard", Ready, "ours", "bwrap", 1.0/6),
		run.Ratio("whole", "whole command", Total, "bwrap", "ours", 1.5),
		run.Ratio("cold-runc", "cold spawn", Ready, "ours", "runc", 1.0/15),
		run.Ratio("cold-none", "cold spawn", Ready, "ours", "crun", 1.0/15),
		AtMost("memory", "memory of an idle actor", Bytes, 471040, 614400, ""),
		AtMost("boot-death", "boot death known, p95", Nanoseconds, 2.5e6, 2e6, "150 times"),
		AtMost("leak", "left after 10,000 spawns", Things, 0, 0, ""),
		Figure("call", "call with 1 MiB", Times, 0.8, "of which nothing is claimed"),
	)
	t.Rates = []Rate{{Name: "ours", InFlight: 4, Spawns: 2000, Elapsed: 2 * time.Second, PerSecond: 1000, Ready: Stats{2000, ms, 2 * ms, 3 * ms, 4 * ms}}}
	t.Crowds = []Crowd{{Name: "ours", Actors: 1000, InFlight: 4, Reach: 950 * ms, Gone: 1200 * ms, Memory: Memory{Slab: 380 << 10, PageTables: 56 << 10, KernelStack: 32 << 10, Percpu: 10 << 10, Anon: 4 << 10}}}
	t.Leaks = []Leak{{"fds", 7, 7, []string{}}, {"cgroups", 12, 13, []string{"/sys/fs/cgroup/pids/x"}}}
	t.Places = []Place{
		{Name: "bare", Ratios: map[string]Ratio{CPU: {1, 1}, Syscalls: {1, 1}, Files: {1, 1}}},
		{"ours", Stats{5, ms, 2 * ms, 3 * ms, 4 * ms}, 620 << 10, map[string]Ratio{CPU: {1.01, 1.02}, Syscalls: {1.5, 1.6}, Files: {0.5, 0.6}}},
	}
	return t
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestTableText(t *testing.T) {
	var b bytes.Buffer
	if err := sampleTable().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", b.Bytes())
}

func TestTableJSON(t *testing.T) {
	var b bytes.Buffer
	if err := sampleTable().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.json", b.Bytes())
	var v struct {
		Schema    string
		Contracts []struct {
			ID, Text, Unit string
			Measured       *float64
			Limit          *float64
			OK             bool
		}
	}
	if err := json.Unmarshal(b.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	if v.Schema != "sandboxd.bench/v1" || len(v.Contracts) != 9 {
		t.Fatalf("schema %q with %d contracts", v.Schema, len(v.Contracts))
	}
	for i, ok := range []bool{true, false, false, false, false, true, false, true, true} {
		if c := v.Contracts[i]; c.OK != ok || (c.Measured == nil) != (i == 3 || i == 4) || (c.Limit == nil) != (i == 8) {
			t.Errorf("contract %d is %+v; want ok %v", i, c, ok)
		}
	}
}

// An empty table has every list, so that a reader needs no case for null.
func TestTableJSONEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := NewTable(HostFacts(t.Context(), nil), "x").WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b.Bytes(), []byte("null")) {
		t.Errorf("null in %s", b.Bytes())
	}
}

func TestMissed(t *testing.T) {
	if n := sampleTable().Missed(); n != 3 {
		t.Errorf("%d contracts missed; want 3, as what was not measured is not missed", n)
	}
}

type fullDisk struct{}

var errFull = errors.New("disk full")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestTableWriteFails(t *testing.T) {
	if err := sampleTable().WriteText(fullDisk{}); !errors.Is(err, errFull) {
		t.Errorf("text: got %v", err)
	}
	if err := sampleTable().WriteJSON(fullDisk{}); !errors.Is(err, errFull) {
		t.Errorf("json: got %v", err)
	}
}
