package ipc

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// message is what every message can do.
type message interface {
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// blank returns an empty message by the name of its type.
var blank = map[string]func() message{
	"Hello":    func() message { return new(Hello) },
	"Welcome":  func() message { return new(Welcome) },
	"Ready":    func() message { return new(Ready) },
	"Failed":   func() message { return new(Failed) },
	"Confined": func() message { return new(Confined) },
	"Proceed":  func() message { return new(Proceed) },
	"Exit":     func() message { return new(Exit) },
}

func encode(t testing.TB, m encoding.BinaryAppender) []byte {
	t.Helper()
	b, err := m.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type vector struct {
	Name, Type, Why, Body, Frame string
	Fields                       map[string]any
}

func vectors(t testing.TB, file string) []vector {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Schema  string
		Vectors []vector
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc.Schema != "sandboxd.vectors/v1" || len(doc.Vectors) == 0 {
		t.Fatalf("%s: schema %q with %d vectors", file, doc.Schema, len(doc.Vectors))
	}
	return doc.Vectors
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fieldOrder is the order of a message's fields on the wire.
var fieldOrder = map[string][]string{
	"Hello": {"proto", "actor", "epoch", "nonce", "pid"}, "Welcome": {"epoch", "plan"}, "Ready": {"pid"},
	"Failed": {"step", "index", "errno"}, "Confined": {"pid"}, "Proceed": {}, "Exit": {"status"},
}

// TestVectorsAccepted decodes every vector with our decoder and with msgpack/v5
// and holds both to the fields written beside the bytes.
func TestVectorsAccepted(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range vectors(t, "accept.json") {
		body, m := unhex(t, v.Body), blank[v.Type]()
		seen[v.Type] = true
		if err := m.UnmarshalBinary(body); err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if got := encode(t, m); !bytes.Equal(got, body) {
			t.Errorf("%s: encodes to %x", v.Name, got)
		}
		frame := unhex(t, v.Frame)
		if binary.LittleEndian.Uint32(frame) != uint32(len(body)) || !bytes.Equal(frame[4:], body) {
			t.Errorf("%s: frame is not its body behind a length", v.Name)
		}
		if typ, err := TypeOf(body); err != nil || typ.String() != v.Type {
			t.Errorf("%s: type %v, %v", v.Name, typ, err)
		}
		var list []any
		if err := msgpack.Unmarshal(body, &list); err != nil {
			t.Errorf("%s: msgpack: %v", v.Name, err)
			continue
		}
		ours, names := fieldsOf(m), fieldOrder[v.Type]
		if len(list) != len(names)+1 {
			t.Errorf("%s: %d elements", v.Name, len(list))
			continue
		}
		for i, name := range names {
			want := text(v.Fields[name])
			if got := text(ours[i]); got != want {
				t.Errorf("%s: %s is %s, want %s", v.Name, name, got, want)
			}
			if got := text(list[i+1]); got != want {
				t.Errorf("%s: msgpack: %s is %s, want %s", v.Name, name, got, want)
			}
		}
	}
	if len(seen) != len(blank) {
		t.Errorf("vectors cover %v only", seen)
	}
}

// fieldsOf returns the fields of m in the order of the wire.
func fieldsOf(m message) []any {
	switch m := m.(type) {
	case *Hello:
		return []any{m.Proto, m.Actor, m.Epoch, m.Nonce[:], m.PID}
	case *Welcome:
		return []any{m.Epoch, m.Plan}
	case *Ready:
		return []any{m.PID}
	case *Failed:
		return []any{m.Step, m.Index, m.Errno}
	case *Confined:
		return []any{m.PID}
	case *Exit:
		return []any{uint32(m.Status)}
	}
	return nil
}

// text is the spelling of a field in the vector files.
func text(v any) string {
	if b, ok := v.([]byte); ok {
		v = hex.EncodeToString(b)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestVectorsRefused(t *testing.T) {
	for _, v := range vectors(t, "refuse.json") {
		m := blank[v.Type]()
		before := text(fieldsOf(m))
		err := m.UnmarshalBinary(unhex(t, v.Body))
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s (%s): %v", v.Name, v.Why, err)
		}
		if after := text(fieldsOf(m)); after != before {
			t.Errorf("%s: a refused message was filled in: %s", v.Name, after)
		}
	}
}

func TestDecodersRefuseOtherTypes(t *testing.T) {
	for _, v := range vectors(t, "accept.json") {
		for name, blank := range blank {
			err := blank().UnmarshalBinary(unhex(t, v.Body))
			if (name == v.Type) != (err == nil) || name != v.Type && !errors.Is(err, ErrUnexpected) {
				t.Errorf("%s as %s: %v", v.Name, name, err)
			}
		}
	}
}

func TestEncodersRefuse(t *testing.T) {
	for _, c := range []struct {
		m    encoding.BinaryAppender
		want error
	}{
		{&Hello{Actor: strings.Repeat("a", 256), PID: 1}, ErrMalformed},
		{&Hello{}, ErrMalformed},
		{&Ready{}, ErrMalformed},
		{&Ready{PID: -1}, ErrMalformed},
		{&Confined{PID: maxPID + 1}, ErrMalformed},
		{&Welcome{Plan: make([]byte, MaxPlan+1)}, ErrFrameTooLarge},
	} {
		if _, err := c.m.AppendBinary(nil); !errors.Is(err, c.want) {
			t.Errorf("%T: %v, want %v", c.m, err, c.want)
		}
	}
	if got := len(encode(t, &Welcome{Plan: make([]byte, MaxPlan)})); got != DefaultCap {
		t.Errorf("the largest Welcome is %d bytes, the cap %d", got, DefaultCap)
	}
}

// TestWelcomeCopies pins that a plan does not pin or alias its frame.
func TestWelcomeCopies(t *testing.T) {
	body := encode(t, &Welcome{Plan: []byte{1, 2}})
	var w Welcome
	if err := w.UnmarshalBinary(body); err != nil {
		t.Fatal(err)
	}
	body[len(body)-1] = 9
	if w.Plan[1] != 2 {
		t.Error("the plan changed with the frame")
	}
}

func TestTypeNumbers(t *testing.T) {
	for want, got := range map[Type]Type{
		1: TypeHello, 2: TypeWelcome, 3: TypeReady, 4: TypeFailed, 5: TypeConfined, 6: TypeProceed, 7: TypeExit, 8: TypeSignal,
	} {
		if got != want {
			t.Errorf("%v is %d, want %d", got, got, want)
		}
		if strings.HasPrefix(got.String(), "type ") {
			t.Errorf("%d has no name", got)
		}
	}
	for _, unknown := range []Type{0, 9, 127, 255} {
		if !strings.HasPrefix(unknown.String(), "type ") {
			t.Errorf("%d is called %v", uint8(unknown), unknown)
		}
	}
}

func TestStepErrorUnwraps(t *testing.T) {
	err := error(&StepError{Step: 3, Index: 9, Errno: syscall.ENOENT})
	if !errors.Is(err, os.ErrNotExist) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("%v is not ENOENT", err)
	}
}
