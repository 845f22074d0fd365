package job

import (
	"bytes"
	"encoding"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestArgs(t *testing.T) {
	for _, j := range []Job{
		{Argv: []string{"a"}},
		{Memory: 1 << 40, Pages: 1 << 16, Peer: true, Env: []string{"A=", "B=run", "C=\n"}, Argv: []string{"x.wasm", "", "-v", "run"}},
	} {
		got, err := Parse(j.Args())
		if err != nil || got.Memory != j.Memory || got.Pages != j.Pages || got.Peer != j.Peer || !slices.Equal(got.Env, j.Env) || !slices.Equal(got.Argv, j.Argv) {
			t.Errorf("%+v became %+v, %v", j, got, err)
		}
	}
	good := Job{Env: []string{"A=1"}, Argv: []string{"x"}}.Args()
	for i := range good[1:] {
		bad := slices.Clone(good)
		if bad[i+1] = "?"; i+1 < 7 {
			if j, err := Parse(bad); err == nil {
				t.Errorf("%q is taken for %+v", bad, j)
			}
		}
		if j, err := Parse(good[:i+1]); err == nil {
			t.Errorf("%q is taken for %+v", good[:i+1], j)
		}
	}
}

type message interface {
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

func examples() map[message]message {
	return map[message]message{
		&Opened{Sum{1, 31: 2}}: new(Opened), &Begin{""}: new(Begin), &Begin{strings.Repeat("f", 255)}: new(Begin),
		&Ready{"abc"}: new(Ready), &Failed{syscall.ENOEXEC, "no module"}: new(Failed),
	}
}

// Each message is read as itself, and as nothing else; nothing near it is read as it.
func TestMessages(t *testing.T) {
	for m, to := range examples() {
		b, err := m.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := to.UnmarshalBinary(b); err != nil {
			t.Errorf("%#v: %v", m, err)
		}
		again, err := to.AppendBinary(nil)
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("%#v became %#v, %v", m, to, err)
		}
		for _, other := range []message{new(Opened), new(Begin), new(Ready), new(Failed)} {
			err := other.UnmarshalBinary(b)
			if same := fmt.Sprintf("%T", other) == fmt.Sprintf("%T", m); same != (err == nil) {
				t.Errorf("%#v read as %T: %v", m, other, err)
			}
		}
		for n := range b {
			if err := to.UnmarshalBinary(b[:n]); err == nil {
				t.Errorf("%d of the %d bytes of %#v are taken for it", n, len(b), m)
			}
		}
		if err := to.UnmarshalBinary(append(b, 0)); err == nil {
			t.Errorf("%#v and a byte more are taken for it", m)
		}
	}
	if _, err := (&Ready{strings.Repeat("x", 256)}).AppendBinary(nil); err == nil {
		t.Error("a name that no length byte counts is sent")
	}
	long, err := (&Failed{syscall.EIO, strings.Repeat("x", 1000)}).AppendBinary(nil)
	var cut Failed
	if err != nil || cut.UnmarshalBinary(long) != nil || len(cut.Text) != 255 {
		t.Errorf("a long text: %d bytes, %v", len(cut.Text), err)
	}
	if b, err := (&Failed{Text: "x"}).AppendBinary(nil); err != nil || cut.UnmarshalBinary(b) == nil {
		t.Error("a failure without an errno is taken for one")
	}
}

// What is read is what would have been written.
func FuzzMessages(f *testing.F) {
	for m := range examples() {
		b, err := m.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []message{new(Opened), new(Begin), new(Ready), new(Failed)} {
			if m.UnmarshalBinary(b) != nil {
				continue
			}
			if again, err := m.AppendBinary(nil); err != nil || !bytes.Equal(b, again) {
				t.Errorf("%x was read as %#v, which is %x, %v", b, m, again, err)
			}
		}
	})
}
