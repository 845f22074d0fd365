package vmrun

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandboxd/vm/guest"
)

type pipe struct {
	io.Reader
	io.Writer
}

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	c := &guest.Conn{RW: pipe{&b, &b}}
	long := bytes.Repeat([]byte("ab"), guest.MaxBody)
	if err := c.SendAll(stdout, bytes.NewReader(long)); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(stdin, nil); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for {
		k, body, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if k == stdin && len(body) == 0 {
			break
		}
		got = append(got, body...)
	}
	if !bytes.Equal(got, long) {
		t.Errorf("%d bytes came of %d", len(got), len(long))
	}
}

// guestSays lets a session serve what a hostile guest might send.
func guestSays(t *testing.T, accept []string, frames ...string) (int, error) {
	t.Helper()
	s := session{runner: &runner{out: io.Discard, errs: io.Discard}, accept: map[string]bool{}}
	for _, a := range accept {
		s.accept[a] = true
	}
	s.conn = &guest.Conn{RW: pipe{strings.NewReader(strings.Join(frames, "")), io.Discard}}
	return s.serve()
}

func frame(k guest.Kind, body string) string {
	return string([]byte{byte(k), byte(len(body)), byte(len(body) >> 8), byte(len(body) >> 16), byte(len(body) >> 24)}) + body
}

func TestHostileGuest(t *testing.T) {
	dir := t.TempDir()
	asked, tree := filepath.Join(dir, "asked"), filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(tree, "out")); err != nil {
		t.Fatal(err)
	}
	accept := []string{asked, tree}
	end := frame(exited, `{"Code":3}`)
	for _, c := range []struct {
		want   string
		frames []string
	}{
		{"EOF", nil},
		{"EOF", []string{"o"}},
		{"unexpected EOF", []string{"o\x05\x00\x00\x00ab"}},
		{"bytes", []string{"o\xff\xff\xff\xff"}},
		{"frame", []string{frame('?', "")}},
		{"frame", []string{frame(ready, "{}")}},
		{"content of no file", []string{frame(data, "x")}},
		{"nobody asked for", []string{frame(file, `{"Path":"/etc/passwd"}`), end}},
		{"nobody asked for", []string{frame(file, `{"Path":"`+asked+`x"}`), end}},
		{"escapes", []string{frame(file, `{"Path":"`+tree+`/../asked"}`), end}},
		{"escapes", []string{frame(file, `{"Path":"`+tree+`/out/planted"}`), frame(data, "x"), end}},
		{"unexpected end of JSON", []string{frame(file, `[`), end}},
		{"could not do it: a ?[31mword", []string{frame(failed, "a \x1b[31mword")}},
		{"no exit code", []string{frame(exited, `{"Code":-1}`)}},
		{"cannot unmarshal", []string{frame(exited, `{"Code":"x"}`)}},
	} {
		if code, err := guestSays(t, accept, c.frames...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: code %d, %v; want %q", c.frames, code, err, c.want)
		}
	}
	if found, _ := filepath.Glob(dir + "/*"); len(found) != 1 {
		t.Errorf("files were made: %q", found)
	}
	code, err := guestSays(t, accept, frame(file, `{"Path":"`+asked+`"}`), frame(data, "one "), frame(data, "two"),
		frame(file, `{"Path":"`+tree+`/a/b"}`), frame(data, "deep"), end)
	if code != 3 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	for path, want := range map[string]string{asked: "one two", tree + "/a/b": "deep"} {
		if b, err := os.ReadFile(path); string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(frame(stdout, "x") + frame(exited, `{"Code":1}`)))
	f.Add([]byte(frame(file, `{"Path":"/asked/x"}`) + frame(data, "y")))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Nothing was asked for, so no file may be made; it must end.
		if code, err := guestSays(t, nil, string(b)); err == nil && code < 0 {
			t.Errorf("code %d without an error", code)
		}
	})
}
