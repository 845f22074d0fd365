package bench

import (
	"math"
	"testing"
	"time"
)

func TestStats(t *testing.T) {
	hundred := make(Series, 100)
	for i := range hundred {
		hundred[i] = time.Duration((i*37)%100 + 1) // 1 to 100, not in order
	}
	for _, c := range []struct {
		name string
		in   Series
		want Stats
	}{
		{"none", nil, Stats{}},
		{"one", Series{7}, Stats{1, 7, 7, 7, 7}},
		{"odd", Series{30, 10, 20}, Stats{3, 10, 20, 30, 30}},
		{"even", Series{40, 10, 20, 30}, Stats{4, 10, 25, 40, 40}},
		{"hundred", hundred, Stats{100, 10, 50, 95, 100}}, // the mean of 50 and 51, in whole ns
	} {
		if got := c.in.Stats(); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	if hundred[0] != 1 || hundred[1] != 38 {
		t.Error("Stats reordered the series")
	}
}

func TestRatio(t *testing.T) {
	for _, c := range []struct {
		name    string
		s, base Series
		want    Ratio
	}{
		{"none", nil, nil, Ratio{}},
		{"zero base", Series{1, 2}, Series{0, 0}, Ratio{}},
		{"half", Series{1, 2, 3}, Series{2, 4, 6}, Ratio{0.5, 0.5}},
		// Rounds 2 and 3 were slow for both: the ratios inside rounds agree, medians are of different rounds.
		{"noise", Series{10, 100, 90, 12}, Series{20, 200, 180, 24}, Ratio{0.5, 0.5}},
		{"differ", Series{1, 10, 10}, Series{10, 10, 1}, Ratio{1, 1}},
		{"skewed", Series{1, 6, 100}, Series{1, 2, 1000}, Ratio{1, 3}},
	} {
		got := c.s.RatioTo(c.base)
		if math.Abs(got.PerRound-c.want.PerRound) > 1e-9 || math.Abs(got.OfMedians-c.want.OfMedians) > 1e-9 {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}
