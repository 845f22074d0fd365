// Package bench measures spawns side by side: ways to start a sandbox (our own,
// bwrap, runc, crun, os/exec, the same system calls in bare C) take turns in one
// run, and what comes out are ratios.
//
//	w, err := bench.NewWorkspace()
//	if err != nil {
//		return err
//	}
//	defer w.Close()
//	subjects := []bench.Subject{ours, bench.NewBwrap(w), bench.NewBare(w, bench.BareOptions{})}
//	run, err := bench.Interleave(ctx, subjects, bench.Options{Rounds: 100})
//	if err != nil {
//		return err
//	}
//	table := bench.NewTable(bench.HostFacts(ctx, subjects), "sandboxd bench")
//	table.AddRun(run, "bwrap")
//	table.Rows = append(table.Rows, run.Ratio("cold", "cold spawn, every filter on", bench.Ready, ours.Name(), "bwrap", 1.0/3))
//	err = table.WriteText(os.Stdout)
//
// Absolute figures are true for one machine at one moment. Only ratios inside
// one interleaved run are comparable, so a contract is a limit on a ratio.
//
// Non-goals: profiling, and comparing runs with each other.
package bench
