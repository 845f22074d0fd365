package codec

import (
	"bytes"
	"testing"
)

func TestAdoptLendsItsInput(t *testing.T) {
	type part struct {
		A, B Lent
		C    []byte
	}
	in := part{Lent("first"), Lent("second"), []byte("third")}
	raw, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out part
	lent, err := Adopt(raw, &out)
	if err != nil || !lent {
		t.Fatalf("Adopt: %v, lent %v", err, lent)
	}
	_ = append(out.A, "beyond"...) // must not reach what follows
	if !bytes.Equal(out.A, in.A) || !bytes.Equal(out.B, in.B) || !bytes.Equal(out.C, in.C) {
		t.Fatalf("got %q", out)
	}
	clear(raw)
	if out.A[0] != 0 || out.B[0] != 0 || string(out.C) != "third" {
		t.Errorf("after its input was cleared: %q; want the Lents cleared, and no other", out)
	}
}

func TestNothingLent(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func(raw []byte) (lent bool, got []byte, err error)
	}{
		{"Unmarshal", func(raw []byte) (bool, []byte, error) {
			var l Lent
			err := Unmarshal(raw, &l)
			return false, l, err
		}},
		{"Adopt of a plain slice", func(raw []byte) (bool, []byte, error) {
			var b []byte
			lent, err := Adopt(raw, &b)
			return lent, b, err
		}},
	} {
		raw, _ := Marshal([]byte("kept"))
		lent, got, err := c.f(raw)
		clear(raw)
		if lent || err != nil || string(got) != "kept" {
			t.Errorf("%s: %q, lent %v, %v", c.name, got, lent, err)
		}
	}
	var l Lent
	if lent, err := Adopt([]byte{0xc0}, &l); lent || l != nil || err != nil {
		t.Errorf("nil: %v, lent %v, %v", l, lent, err)
	}
	if _, err := Adopt([]byte{0x07}, &l); err == nil {
		t.Error("an integer was taken for a Lent")
	}
}

func TestUnmarshalUsesTheMemoryOfBytes(t *testing.T) {
	for _, size := range []int{0, 3, 8, 9} {
		into := append(make([]byte, 0, 8), "stale..."...)
		first := &into[0]
		want := bytes.Repeat([]byte("x"), size)
		raw, _ := Marshal(want)
		if err := Unmarshal(raw, &into); err != nil || !bytes.Equal(into, want) {
			t.Fatalf("%d bytes: %q, %v", size, into, err)
		}
		if size > 0 && (&into[0] == first) != (size <= 8) {
			t.Errorf("%d bytes into 8: same memory is %v", size, &into[0] == first)
		}
	}
	into := []byte("stale")
	if err := Unmarshal([]byte{0xc0}, &into); into != nil || err != nil {
		t.Errorf("nil: %q, %v", into, err)
	}
	into = []byte("stale")
	if err := Unmarshal([]byte{0x07}, &into); into != nil || err == nil {
		t.Errorf("an integer: %q, %v", into, err)
	}
}
