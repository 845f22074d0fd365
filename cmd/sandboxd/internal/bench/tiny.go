package bench

import (
	"encoding/binary"
	"os"
)

// tinyName is what the program is called in every root that holds it.
const tinyName = "first"

// writeTiny writes the program that every subject runs: a static ELF file
// without a library that writes one byte to descriptor 1 and exits, or, given
// an argument, sleeps until it is killed. What it costs is the kernel's part of
// a spawn alone.
func writeTiny(path string) error {
	const base, head = 0x400000, 64 + 56
	size := uint64(head + len(tinyCode))
	le := binary.LittleEndian
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, tinyMachine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+head) // entry
	b = le.AppendUint64(b, 64)        // program headers
	b = le.AppendUint64(b, 0)         // no sections
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // read, execute
	for _, v := range []uint64{0, base, base, size, size, 0x10000} {
		b = le.AppendUint64(b, v)
	}
	return os.WriteFile(path, append(b, tinyCode...), 0o755)
}
