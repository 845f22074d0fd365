package session

import "sync"

// buffers are bytes that the typed functions have encoded into or decoded from,
// and that nobody else has: large payloads cost more to allocate than to copy.
var buffers sync.Pool

// worth is the least that is kept.
const worth = 16 << 10

// buffer gives one of no bytes, with room for n and not much more, since what
// is held for a peer is counted by its bytes; of any size where n is 0. nil: none is kept.
func buffer(n int) []byte {
	if b, ok := buffers.Get().(*[]byte); ok {
		if n == 0 || cap(*b) >= n && cap(*b) <= 2*n {
			return (*b)[:0]
		}
		buffers.Put(b)
	}
	return nil
}

// recycle takes a buffer back. Precondition: nobody looks at it any more.
func recycle(b []byte) {
	if cap(b) >= worth && cap(b) <= 4*DefaultCap {
		kept := b // b itself stays off the heap
		buffers.Put(&kept)
	}
}
