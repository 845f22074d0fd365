package wire_test

import (
	"fmt"

	"sandboxd/ipc/wire"
)

func ExampleReader() {
	b := wire.AppendUint16(wire.AppendFixint(wire.AppendArray(nil, 2), 1), 512)
	r := wire.NewReader(b)
	r.Array(2)
	r.Fixint(1)
	n := r.Uint16()
	fmt.Println(n, r.Done())
	// Output: 512 <nil>
}

// A peer in any language may send any form of a value; Check bounds what it
// claims, a Scanner reads it.
func ExampleScanner() {
	body := []byte("\x82\xa5width\xcd\x02\x80\xa4name\xd9\x06render")
	if err := wire.Check(body, wire.Limits{}); err != nil {
		fmt.Println(err)
		return
	}
	s := wire.NewScanner(body)
	for range s.Map() {
		switch key := s.Str(16); key {
		case "width":
			fmt.Println(key, s.Uint(4096))
		case "name":
			fmt.Println(key, s.Str(64))
		default:
			s.Fail(fmt.Errorf("unknown key %q", key))
		}
	}
	fmt.Println(s.Done())
	// Output:
	// width 640
	// name render
	// <nil>
}

func ExampleCheck() {
	fmt.Println(wire.Check([]byte("\xdd\xff\xff\xff\xff"), wire.Limits{}))
	// Output: wire: declared length exceeds the bytes left, at byte 0
}

func ExampleAppendMapHead() {
	b := wire.AppendMapHead(nil, 1)
	b = wire.AppendStr(b, "width")
	b = wire.AppendUint(b, 640)
	fmt.Printf("%q\n", b)
	// Output: "\x81\xa5width\xcd\x02\x80"
}
