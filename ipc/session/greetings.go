package session

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"sandboxd/ipc/wire"
)

func (h *Hello) append(b []byte) []byte {
	flags := uint64(0)
	if h.Probe {
		flags = 1
	}
	b = wire.AppendArrayHead(b, shapes[hello].n)
	b = wire.AppendUint(b, uint64(hello))
	b = wire.AppendUint(b, Proto)
	b = wire.AppendStr(b, clip(h.SDK, maxSDK))
	return wire.AppendUint(appendStrings(b, h.Verbs), flags)
}

func decodeHello(body []byte) (h Hello, err error) {
	s := wire.NewScanner(body)
	if n, k := s.Array(), kind(s.Uint(255)); n != shapes[hello].n || k != hello {
		return h, violation("%v of %d elements where HELLO belongs", k, n)
	}
	if p := s.Uint(maxNumber); s.Err() == nil && p != Proto {
		return h, violation("HELLO: protocol version %d, this side speaks %d", p, Proto)
	}
	h.SDK = s.Str(maxSDK)
	h.Verbs = scanVerbs(&s)
	h.Probe = s.Uint(1) == 1
	if err := s.Done(); err != nil {
		return Hello{}, violation("HELLO: %w", err)
	}
	return h, nil
}

func (w *Welcome) append(b []byte) []byte {
	b = wire.AppendArrayHead(b, shapes[welcome].n)
	b = wire.AppendUint(b, uint64(welcome))
	b = wire.AppendUint(b, Proto)
	b = wire.AppendStr(wire.AppendStr(b, clip(w.Self.ID, maxName)), clip(w.Self.Name, maxName))
	b = wire.AppendUint(b, w.Epoch)
	b = wire.AppendUint(b, uint64(w.Cap))
	b = wire.AppendUint(b, uint64(w.Window))
	b = wire.AppendUint(b, millis(w.Left))
	b = wire.AppendMapHead(b, len(w.Limits))
	for _, k := range slices.Sorted(maps.Keys(w.Limits)) {
		b = wire.AppendUint(wire.AppendStr(b, k), min(w.Limits[k], maxNumber))
	}
	return appendStrings(b, w.Verbs)
}

func decodeWelcome(body []byte) (w Welcome, err error) {
	s := wire.NewScanner(body)
	n, k := s.Array(), kind(s.Uint(255))
	if k == fail {
		var m message
		if err := m.decode(body); err != nil {
			return w, err
		}
		if m.cid != 0 {
			return w, violation("ERROR of call %d where WELCOME belongs", m.cid)
		}
		return w, m.err
	}
	if n != shapes[welcome].n || k != welcome {
		return w, violation("%v of %d elements where WELCOME belongs", k, n)
	}
	if p := s.Uint(maxNumber); s.Err() == nil && p != Proto {
		return w, violation("WELCOME: protocol version %d, this side speaks %d", p, Proto)
	}
	w.Self = Ref{ID: s.Str(maxName), Name: s.Str(maxName)}
	w.Epoch = s.Uint(maxNumber)
	w.Cap = int(s.Uint(64 << 20))
	w.Window = int(s.Uint(64 << 20))
	w.Left = duration(s.Uint(maxNumber))
	limits := s.Map()
	for range limits {
		if s.Err() != nil {
			break
		}
		if w.Limits == nil {
			w.Limits = map[string]uint64{}
		}
		k := s.Str(maxName)
		w.Limits[k] = s.Uint(maxNumber)
	}
	w.Verbs = scanVerbs(&s)
	if err := s.Done(); err != nil {
		return Welcome{}, violation("WELCOME: %w", err)
	}
	if w.Cap < 4<<10 || w.Window < minItem {
		return Welcome{}, violation("WELCOME: frames of %d bytes and windows of %d are of no use", w.Cap, w.Window)
	}
	return w, nil
}

func appendStrings(b []byte, list []string) []byte {
	b = wire.AppendArrayHead(b, len(list))
	for _, v := range list {
		b = wire.AppendStr(b, v)
	}
	return b
}

func scanVerbs(s *wire.Scanner) []string {
	n := s.Array()
	if n > maxVerbs {
		s.Fail(fmt.Errorf("%d verbs, at most %d", n, maxVerbs))
	}
	var list []string
	for i := 0; i < n && s.Err() == nil; i++ {
		list = append(list, scanName(s, "verb"))
	}
	return slices.Clip(list)
}

// millis is d as time left on the wire, where 0 is no deadline.
func millis(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64((d + time.Millisecond - 1) / time.Millisecond)
}

// duration is the reverse of millis, and as long as a Duration gets for what is longer.
func duration(ms uint64) time.Duration {
	return time.Duration(min(ms, uint64(1<<63-1)/uint64(time.Millisecond))) * time.Millisecond
}
