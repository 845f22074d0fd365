package callbench

import "testing"

func TestMeasure(t *testing.T) {
	rounds := 2
	if !testing.Short() {
		rounds = 5
	}
	figures, err := Measure(t.Context(), rounds)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		t.Logf("%-18s %8d bytes: min %9v, median %9v", f.Name, f.Bytes, f.Min, f.Median)
		if f.Min <= 0 || f.Median < f.Min {
			t.Errorf("%+v", f)
		}
	}
}

// Measured on purpose: go test -run '^$' -bench Figures ./internal/callbench
func BenchmarkFigures(b *testing.B) {
	for b.Loop() {
		figures, err := Measure(b.Context(), 100)
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range figures {
			b.Logf("%-18s %8d bytes: min %9v, median %9v", f.Name, f.Bytes, f.Min, f.Median)
		}
	}
}
