package bench

import (
	"math"
	"slices"
	"time"
)

// Series is one figure of one subject, by round.
type Series []time.Duration

// Stats summarises a Series. The zero value is that of no samples.
type Stats struct {
	N      int           `json:"n"`
	P10    time.Duration `json:"p10_ns"`
	Median time.Duration `json:"median_ns"`
	P95    time.Duration `json:"p95_ns"`
	Max    time.Duration `json:"max_ns"`
}

// Stats sorts a copy. Percentiles are by nearest rank; the median of an even
// number of samples is the mean of the middle two.
func (s Series) Stats() Stats {
	if len(s) == 0 {
		return Stats{}
	}
	v := slices.Sorted(slices.Values(s))
	rank := func(p float64) time.Duration { return v[max(int(math.Ceil(p*float64(len(v)))), 1)-1] }
	return Stats{N: len(v), P10: rank(0.10), Median: middle(v), P95: rank(0.95), Max: v[len(v)-1]}
}

// middle is the median of sorted values, of which there must be one.
func middle[T ~int64 | ~float64](v []T) T {
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return v[n/2-1] + (v[n/2]-v[n/2-1])/2
}

// Ratio compares two series of one run in both ways that make sense.
type Ratio struct {
	PerRound  float64 `json:"median_of_ratios"` // median of the ratios inside each round: noise that lasts for a round cancels out
	OfMedians float64 `json:"ratio_of_medians"`
}

// RatioTo compares s with base, round by round; both must be of one run. It is
// zero where there are no rounds to compare.
func (s Series) RatioTo(base Series) Ratio {
	var each []float64
	for i := range min(len(s), len(base)) {
		if base[i] > 0 {
			each = append(each, float64(s[i])/float64(base[i]))
		}
	}
	if len(each) == 0 {
		return Ratio{}
	}
	slices.Sort(each)
	r := Ratio{PerRound: middle(each)}
	if m := base.Stats().Median; m > 0 {
		r.OfMedians = float64(s.Stats().Median) / float64(m)
	}
	return r
}
