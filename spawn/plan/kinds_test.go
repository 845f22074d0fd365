package plan

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"
)

func TestEveryKindIsDescribed(t *testing.T) {
	word := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]Kind{}
	for k := MountPrivate; k < kindEnd; k++ {
		name := k.String()
		if !word.MatchString(name) {
			t.Errorf("kind %d is named %q", k, name)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("kinds %d and %d are both named %q", other, k, name)
		}
		seen[name] = k
		b, err := json.Marshal(k)
		if err != nil || string(b) != `"`+name+`"` {
			t.Errorf("kind %d in JSON: %s, %v", k, b, err)
		}
		nums, strs := fields(meaning[k].nums), fields(meaning[k].strs)
		if len(nums) > MaxNums || len(strs) > MaxStrs {
			t.Errorf("%v describes %d numbers and %d strings, more than a step has", k, len(nums), len(strs))
		}
		operands := map[string]bool{}
		for i, f := range append(nums, strs...) {
			forms := "dxosi"
			if i >= len(nums) {
				forms = "thlb"
			}
			if f.name == "" || operands[f.name] || !regexp.MustCompile("^["+forms+"]$").MatchString(string(f.form)) {
				t.Errorf("%v: operand %d is %q with form %q", k, i, f.name, f.form)
			}
			operands[f.name] = true
		}
	}
}

func TestFieldsNameEveryOperand(t *testing.T) {
	for _, s := range every() {
		got := s.Fields()
		if len(got) != len(s.Nums)+len(s.Strs) {
			t.Fatalf("%v: %d fields for %d operands", s.Kind, len(got), len(s.Nums)+len(s.Strs))
		}
		for i, f := range got {
			if f.Value == "" || regexp.MustCompile(`^operand\d`).MatchString(f.Name) {
				t.Errorf("%v: field %d is %+v", s.Kind, i, f)
			}
		}
	}
}

// A step that no list has is shown with all its operands, not a reason to panic.
func TestStrangeStepsAreShown(t *testing.T) {
	for want, step := range map[string]Step{
		"step-0":                             {},
		"step-65535":                         {Kind: 65535},
		"sync operand0=9 operand0=(3 bytes)": {Kind: Sync, Nums: []uint64{9}, Strs: []string{"abc"}},
		"pivot root=1 operand1=2 operand0=(0 bytes)": {Kind: Pivot, Nums: []uint64{1, 2}, Strs: []string{""}},
		fmt.Sprintf("step-%d", kindEnd):              {Kind: kindEnd},
	} {
		if got := step.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := (Step{Kind: 65535, Nums: make([]uint64, 12), Strs: make([]string, 12)}).Fields(); len(got) != 24 {
		t.Errorf("%d of 24 operands are shown", len(got))
	}
}
