package plan

import (
	"encoding/json"
	"strings"
	"testing"
)

// Each kind has words, and they name operands that it has.
func TestWordsForEveryKind(t *testing.T) {
	for k := Kind(1); k < kindEnd; k++ {
		m := meaning[k]
		s := Step{Kind: k, Nums: make([]uint64, len(fields(m.nums))), Strs: make([]string, len(fields(m.strs)))}
		got := s.Words()
		if got == "" || strings.ContainsAny(got, "{}\n") {
			t.Errorf("%v: %q", k, got)
		}
	}
	for _, k := range []Kind{0, kindEnd, kindEnd + 9} {
		if got := (Step{Kind: k}).Words(); !strings.HasPrefix(got, "step-") {
			t.Errorf("unknown kind %d: %q", k, got)
		}
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		step Step
		want string
	}{
		{Step{Attach, []uint64{0, 1, 0}, []string{"/proc"}}, "mount it at /proc; no link can lead this out of the new root"},
		{Step{Unshare, []uint64{0x40000000}, nil}, "leave the network namespace for one of its own"},
		{Step{Rlimit, []uint64{7, 64, ^uint64(0)}, nil}, "limit nofile to 64, at most unlimited"},
		{Step{Rlimit, []uint64{99, 64, 64}, nil}, "limit 99 to 64, at most 64"},
	} {
		if got := c.step.Words(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := Namespaces(0x20000 | 0x10000000 | 0x20000000); got != "mount, user, pid" {
		t.Errorf("namespaces: %q", got)
	}
}

// The JSON form is a contract: names, not numbers; binary operands by their size.
func TestStepJSON(t *testing.T) {
	got, err := json.Marshal(Section{"before", "by the init", []Step{
		{Kind: Undumpable},
		{Connect, []uint64{1, 2}, []string{"/s", "a", "\x00\xff"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"before","runs":"by the init","steps":[{"step":"undumpable","operands":[]},` +
		`{"step":"connect","operands":[{"name":"protocol","value":"1"},{"name":"epoch","value":"2"},{"name":"socket","value":"\"/s\""},` +
		`{"name":"actor","value":"\"a\""},{"name":"nonce","value":"(2 bytes)"}]}]}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
