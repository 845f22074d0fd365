package wire_test

import (
	"fmt"

	"sandboxd/ipc/wire"
)

// Five bytes that make an unguarded decoder allocate gigabytes.
func ExampleCheck() {
	fmt.Println(wire.Check([]byte{0xdd, 0x08, 0, 0, 0}, wire.Limits{}))
	fmt.Println(wire.Check([]byte{0x92, 1, 2}, wire.Limits{}))
	// Output:
	// wire: declared length exceeds the bytes left
	// <nil>
}

func ExampleReader() {
	b := wire.AppendUint16(wire.AppendFixint(wire.AppendArray(nil, 2), 1), 512)
	r := wire.NewReader(b)
	r.Array(2)
	r.Fixint(1)
	n := r.Uint16()
	fmt.Println(n, r.Done())
	// Output: 512 <nil>
}
