package vm

import "testing"

func TestHasVirtualisation(t *testing.T) {
	for info, want := range map[string]bool{
		"processor\t: 0\nflags\t\t: fpu vmx sse\n":      true,
		"flags\t\t: svm\n":                              true,
		"flags\t\t: fpu vmxx\nvmx flags\t: vnmi\n":      false,
		"bugs\t\t: vmx\nmodel name\t: svm\nflags : fpu": false,
		"": false,
	} {
		if got := hasVirtualisation([]byte(info)); got != want {
			t.Errorf("%q: %v, want %v", info, got, want)
		}
	}
}
