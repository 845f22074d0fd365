package hosttest

import (
	"testing"
	"time"
)

func TestPatience(t *testing.T) {
	for slow, want := range map[string]time.Duration{"": 2 * time.Second, "4": 8 * time.Second, "0": 2 * time.Second, "much": 2 * time.Second} {
		t.Setenv("SANDBOXD_SLOW", slow)
		if got := Patience(2); got != want {
			t.Errorf("SANDBOXD_SLOW=%q: %v, want %v", slow, got, want)
		}
	}
}
