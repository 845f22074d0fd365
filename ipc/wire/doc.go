// Package wire builds and takes apart msgpack values, one to a message, without
// a msgpack library.
//
// Messages of the handshake have a fixed byte layout, so that a peer in C needs
// no parser either. A Reader takes them apart:
//
//	r := wire.NewReader(body)
//	r.Array(2)
//	r.Fixint(7)
//	status := r.Uint32()
//	err := r.Done() // the first byte that is not of this layout
//
// Later messages come from peers with a msgpack library of their own, which
// picks among the forms of a value. Check walks such bytes once and bounds what
// they may claim; then a Scanner takes them apart in whatever form they are:
//
//	if err := wire.Check(body, wire.Limits{}); err != nil {
//		return err
//	}
//	s := wire.NewScanner(body)
//	if s.Array() == 2 {
//		name, width := s.Str(255), s.Uint(4096)
//	}
//	err := s.Done()
//
// Reading allocates nothing but what it returns: a length that is declared is
// compared with the bytes that are there.
//
// Non-goals: Go types, for which see ipc/codec; extension types other than the
// timestamp; streams, since a frame holds one value.
// Format: https://github.com/msgpack/msgpack/blob/master/spec.md
package wire
