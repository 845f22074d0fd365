package namespaces

import (
	"os"
	"strconv"
	"testing"
)

func TestParseSubIDs(t *testing.T) {
	for file, want := range map[string]Range{
		"":                                     {},
		"other:100000:65536\n":                 {},
		"me:100000:65536\n":                    {100000, 65536},
		"1000:200000:10":                       {200000, 10},
		"other:1:1\nme:3:4\n1000:5:6\n":        {3, 4},
		"# me\n\nmem:1:1\nme:7\n me:8:9 \nx:y": {8, 9},
		"me:4294967294:1":                      {4294967294, 1},
	} {
		if got, err := parseSubIDs([]byte(file), "1000", "me"); got != want || err != nil {
			t.Errorf("%q: %+v, %v, want %+v", file, got, err, want)
		}
	}
	for _, file := range []string{"me:0:65536", "me:-1:5", "me:x:5", "me:5:", "me:4294967295:1", "me:1:4294967295", "me:99999999999:1"} {
		if got, err := parseSubIDs([]byte(file), "1000", "me"); got != (Range{}) || err == nil {
			t.Errorf("%q: %+v, %v, want an error", file, got, err)
		}
	}
	// A user without a name has no range by name.
	if got, err := parseSubIDs([]byte(":1:1\n"), "1000", ""); got != (Range{}) || err != nil {
		t.Errorf("no name: %+v, %v", got, err)
	}
}

func TestUserName(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\n1000:x:7\nme:x:1000:1000::/:\nalso:x:1000:1000::/:\n"
	for uid, want := range map[string]string{"0": "root", "1000": "me", "7": "", "x": ""} {
		if name := userName([]byte(passwd), uid); name != want {
			t.Errorf("user %s is %q, want %q", uid, name, want)
		}
	}
}

func TestNewIDMapSaysWhatTheToolSaid(t *testing.T) {
	tool := t.TempDir() + "/newuidmap"
	if err := os.WriteFile(tool, []byte("#!/bin/sh\necho \"refused: $*\" >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := tool + ": exit status 1: refused: " + strconv.Itoa(os.Getpid()) + " 0 1000 1"
	if err := NewIDMap(tool, os.Getpid(), []string{"0", "1000", "1"}); err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}
