package cgroup

import (
	"strconv"
	"testing"
)

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		if _, err := Detect(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLeaf is the life of a leaf with three limits; "open" is the part on
// the way to a running actor.
func BenchmarkLeaf(b *testing.B) {
	limits := Limits{Memory: 64 << 20, PIDs: 32, CPUMilli: 1000}
	for _, part := range []string{"open", "remove"} {
		b.Run(part, func(b *testing.B) {
			tree := realTree(b, all3)
			for i := 0; b.Loop(); i++ {
				if part == "remove" {
					b.StopTimer()
				}
				l, err := tree.Leaf(strconv.Itoa(i), limits)
				if err != nil {
					b.Fatal(err)
				}
				tasks, into, err := l.Join()
				if err != nil {
					b.Fatal(err)
				}
				if part == "remove" {
					b.StartTimer()
				} else {
					b.StopTimer()
				}
				for _, f := range tasks {
					f.Close()
				}
				into.Close()
				if err := l.Remove(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
