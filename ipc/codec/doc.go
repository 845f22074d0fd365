// Package codec turns Go values into msgpack and back, strictly: what a hostile
// peer sends either is the value of the type asked for, exactly, or is refused
// with the path to what is wrong.
//
//	type Job struct {
//		Name  string        `msgpack:"name"`
//		Width uint8         `msgpack:"width,omitempty"`
//		Every time.Duration `msgpack:"every"`
//		Extra codec.Raw     `msgpack:"extra"`
//	}
//
//	b, err := codec.Marshal(Job{Name: "render", Width: 3})
//	err = codec.Unmarshal(b, &job)
//	// codec: .jobs[3].width: 300 does not fit uint8
//
// What is what:
//
//   - bool, integers, floats and string are themselves. Integers are never
//     wrapped. A float takes an integer that it holds exactly; a float32 takes a
//     finite float64 in its range, rounded to the nearest.
//   - []byte and [N]byte are a bin, other slices and arrays an array. An array
//     takes exactly as many elements, or bytes, as it has.
//   - A struct is a map by field name, in the order of declaration. The tag
//     `msgpack:"name,omitempty"` names a field; `msgpack:"-"` leaves it out.
//     An embedded struct lends its fields. Unknown and repeated keys are refused,
//     missing ones leave the zero value. omitempty leaves out what is zero, and
//     what has no elements.
//   - A map has string or integer keys, or such as are text; they are sorted. A
//     key that comes twice is refused.
//   - A pointer is nil or what it points to, a slice or map that is nil is nil.
//   - time.Time is a timestamp of the years 1 to 9999, read in UTC; time.Duration
//     is its nanoseconds.
//   - encoding.TextMarshaler and encoding.TextUnmarshaler are a str.
//   - Raw is any one value, kept as it is; Lent is a bin that need not be copied.
//   - An interface is encoded as what it holds. Nothing is decoded into one, nor
//     into a type that has one in it.
//
// Functions, channels, complex numbers, pointers to pointers and embedded
// pointers are refused both ways, and so are tags that mean nothing here.
//
// Both ways a value may nest wire.DefaultDepth deep and consist of
// wire.DefaultItems values. Its strings and bins are as long as the bytes that
// came; all else that decoding allocates is at most MaxMemory.
//
// Non-goals: values of which nobody said the type (decode them from a Raw once
// it is known), streams, Go types described on the wire.
package codec
