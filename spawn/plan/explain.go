package plan

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// field says how one number or string of a step is shown.
type field struct {
	name string
	form byte // d decimal, x hex, o octal, s slot, i id, t text, l NUL-separated list, b size of a binary value
}

// meaning describes each kind once: its name in output and the names of its
// numbers and strings. The shape table of step.c must agree; a test compares.
var meaning = [kindEnd]struct {
	name       string
	nums, strs string // "operand:form …"
}{
	MountPrivate:     {name: "mount-private"},
	Fsmount:          {"fsmount", "slot:s attrs:x", "type:t options:l"},
	OpenTree:         {"open-tree", "slot:s flags:x set:x clear:x root:s", "path:t"},
	Attach:           {"attach", "root:s mount:s resolve:x", "target:t"},
	Setattr:          {"setattr", "root:s flags:x set:x clear:x", "path:t"},
	Mkdir:            {"mkdir", "root:s mode:o uid:i gid:i flags:x", "path:t"},
	Symlink:          {"symlink", "root:s", "text:t path:t"},
	Mknod:            {"mknod", "root:s mode:o device:x", "path:t"},
	WriteFile:        {"write-file", "root:s mode:o flags:x", "path:t contents:b"},
	Idmap:            {"idmap", "mount:s disk-uid:d uid:d disk-gid:d gid:d", ""},
	Pivot:            {"pivot", "root:s", ""},
	Listen:           {"listen", "slot:s bind:s", "path:t"},
	JoinCgroup:       {"join-cgroup", "tasks:s", ""},
	Sync:             {name: "sync"},
	Setid:            {"setid", "uid:d gid:d keep-groups:d", ""},
	Unshare:          {"unshare", "flags:x", ""},
	Setns:            {"setns", "namespace:s type:x", ""},
	OpenFile:         {"open-file", "slot:s flags:x", "path:t"},
	NetnsStart:       {name: "netns-start"},
	NetnsJoin:        {name: "netns-join"},
	Hostname:         {"hostname", "", "name:t"},
	Loopback:         {name: "loopback"},
	Undumpable:       {name: "undumpable"},
	Subreaper:        {name: "subreaper"},
	Keyring:          {name: "keyring"},
	Rlimit:           {"rlimit", "resource:d soft:d hard:d", ""},
	Umask:            {"umask", "mask:o", ""},
	Affinity:         {"affinity", "", "mask:h"},
	OOMScore:         {"oom-score", "adj+1000:d", ""},
	TimeOffsets:      {"time-offsets", "", "offsets:t"},
	Connect:          {"connect", "protocol:d epoch:d", "socket:t actor:t nonce:b"},
	Welcome:          {name: "welcome"},
	TTY:              {"tty", "rows:d columns:d slot:s uid:d gid:d", ""},
	Stdio:            {"stdio", "stdin:s stdout:s stderr:s", ""},
	Fork:             {"fork", "own-image:d", ""},
	Setsid:           {"setsid", "terminal:d", ""},
	Chdir:            {"chdir", "", "path:t"},
	Securebits:       {"securebits", "bits:x", ""},
	DropBounding:     {name: "drop-bounding"},
	DropCaps:         {name: "drop-caps"},
	NoNewPrivs:       {name: "no-new-privs"},
	LandlockCreate:   {"landlock-create", "fs:x net:x scope:x size:d", ""},
	LandlockPath:     {"landlock-path", "access:x flags:x", "path:t"},
	LandlockRestrict: {name: "landlock-restrict"},
	Seccomp:          {"seccomp", "flags:x", "filter:b"},
	CloseFrom:        {"close-from", "first:d", ""},
	Confined:         {name: "confined"},
	Exec:             {"exec", "argc:d envc:d", "program:t args:l env:l path:t"},
	LandlockFile:     {"landlock-file", "access:x file:s", ""},
	ExecFD:           {"exec-fd", "argc:d envc:d image:s", "args:l env:l"},
	Keep:             {"keep", "file:s as:d", ""},
}

// fields parses an operand list of meaning; only printing needs it.
func fields(spec string) []field {
	var out []field
	for f := range strings.FieldsSeq(spec) {
		name, form, _ := strings.Cut(f, ":")
		out = append(out, field{name, form[0]})
	}
	return out
}

// String is the step's name as reports and errors show it, such as "attach".
func (k Kind) String() string {
	if k == 0 || k >= kindEnd {
		return fmt.Sprintf("step-%d", uint16(k))
	}
	return meaning[k].name
}

// MarshalText lets JSON carry the name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Field is one operand of a step in words.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Fields returns the step's operands in wire order, ready to print.
func (s Step) Fields() []Field {
	m := meaning[min(s.Kind, kindEnd-1)]
	var out []Field
	nums, strs := fields(m.nums), fields(m.strs)
	for i, n := range s.Nums {
		out = append(out, Field{name(nums, i), number(nums, i, n)})
	}
	for i, str := range s.Strs {
		out = append(out, Field{name(strs, i), text(strs, i, str)})
	}
	return out
}

// String is one line: the kind and its operands.
func (s Step) String() string {
	var b bytes.Buffer
	b.WriteString(s.Kind.String())
	for _, f := range s.Fields() {
		fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
	}
	return b.String()
}

func name(fields []field, i int) string {
	if i < len(fields) {
		return fields[i].name
	}
	return fmt.Sprintf("operand%d", i)
}

func number(fields []field, i int, n uint64) string {
	form := byte('d')
	if i < len(fields) {
		form = fields[i].form
	}
	switch {
	case form == 's' && n == Cwd:
		return "/"
	case form == 'i' && n == NoID:
		return "keep"
	case form == 'x':
		return fmt.Sprintf("%#x", n)
	case form == 'o':
		return fmt.Sprintf("%#o", n)
	}
	return fmt.Sprintf("%d", n)
}

func text(fields []field, i int, s string) string {
	form := byte('b')
	if i < len(fields) {
		form = fields[i].form
	}
	switch form {
	case 't':
		return fmt.Sprintf("%q", s)
	case 'h':
		return hex.EncodeToString([]byte(s))
	case 'l':
		return fmt.Sprintf("%q", strings.Split(strings.TrimSuffix(s, "\x00"), "\x00"))
	}
	return fmt.Sprintf("(%d bytes)", len(s))
}
