package plan

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const initDir = "../launcher/init/"

func source(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(initDir + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// between cuts what stands between two texts of a C file, without its comments.
func between(t *testing.T, text, begin, end string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, begin)
	if !ok {
		t.Fatalf("the init's source has no %q", begin)
	}
	inner, _, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("the init's source has no %q after %q", end, begin)
	}
	return regexp.MustCompile(`//.*|(?s:/\*.*?\*/)`).ReplaceAllString(inner, "")
}

// cName is a kind's name in C: "mount-private" is MOUNT_PRIVATE.
func cName(k Kind) string { return strings.ToUpper(strings.ReplaceAll(k.String(), "-", "_")) }

// The enum and the shape table of the init say the same as this package: each
// kind's number, its name, and how many operands it has.
func TestInitAgreesOnKinds(t *testing.T) {
	var names []string
	for item := range strings.SplitSeq(between(t, source(t, "init.h"), "enum kind {", "}"), ",") {
		if name, value, set := strings.Cut(strings.TrimSpace(item), "="); name != "" {
			if set && (strings.TrimSpace(value) != "1" || len(names) > 0) {
				t.Errorf("kind %s has the number%s: the numbers must count up from 1", name, value)
			}
			names = append(names, strings.TrimSpace(name))
		}
	}
	if len(names) != int(kindEnd) || names[len(names)-1] != "KIND_END" {
		t.Fatalf("the init has %d names, the last is %s; want %d and KIND_END", len(names), names[len(names)-1], kindEnd)
	}
	shapes := map[string][2]int{}
	table := between(t, source(t, "step.c"), "shape[KIND_END] = {", "};")
	for _, m := range regexp.MustCompile(`\[(\w+)\] = SHAPE\((\d), (\d)\)`).FindAllStringSubmatch(table, -1) {
		nums, _ := strconv.Atoi(m[2])
		strs, _ := strconv.Atoi(m[3])
		shapes[m[1]] = [2]int{nums, strs}
	}
	if entries := strings.Count(table, "] ="); len(shapes) != int(kindEnd)-1 || entries != len(shapes) {
		t.Errorf("the shape table has %d entries, %d of them understood here; want %d", entries, len(shapes), kindEnd-1)
	}
	for k := MountPrivate; k < kindEnd; k++ {
		if got, want := names[k-1], cName(k); got != want {
			t.Errorf("kind %d is %s in the init and %s here", k, got, want)
		}
		want := [2]int{len(fields(meaning[k].nums)), len(fields(meaning[k].strs))}
		if got, ok := shapes[cName(k)]; !ok || got != want {
			t.Errorf("%v has %v numbers and strings here, and %v in the init (found: %v)", k, want, got, ok)
		}
	}
}

// So do the flags, the slots with a meaning, and the sizes of a step.
func TestInitAgreesOnNumbers(t *testing.T) {
	text := source(t, "init.h")
	constants := map[string]uint64{}
	for _, m := range regexp.MustCompile(`\b([A-Z][A-Z_]+) = (\d+)`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseUint(m[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		constants[m[1]] = n
	}
	for name, want := range map[string]uint64{
		"RECURSIVE": Recursive, "OPTIONAL": Optional, "EXIST": Exist,
		"SLOT_CWD": Cwd, "SLOT_REQUEST": SlotRequest, "SLOT_LISTEN": SlotListen, "SLOT_SCRATCH": SlotScratch,
	} {
		if got, ok := constants[name]; !ok || got != want {
			t.Errorf("%s is %d in the init (found: %v) and %d here", name, got, ok, want)
		}
	}
	if slots := constants["SLOTS"]; slots <= SlotScratch || slots > NoSlot {
		t.Errorf("the init has %d slots", slots)
	}
	step := between(t, source(t, "step.c"), "struct step {", "}")
	for _, want := range []string{"u64 n[" + strconv.Itoa(MaxNums) + "]", "*s[" + strconv.Itoa(MaxStrs) + "]", "len[" + strconv.Itoa(MaxStrs) + "]"} {
		if !strings.Contains(step, want) {
			t.Errorf("the init's struct step has no %q:%s", want, step)
		}
	}
}
