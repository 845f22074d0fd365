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
