package session

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sandboxd/ipc/wire"
)

var update = flag.Bool("update", false, "write the test vectors again")

// vector is one line of a file of test vectors; docs/protocol.md says how they are used.
type vector struct {
	Name    string         `json:"name"`
	From    string         `json:"from"`              // who says it: program, supervisor or either
	Body    string         `json:"body"`              // hexadecimal
	Fields  map[string]any `json:"fields,omitempty"`  // what it says
	Refused string         `json:"refused,omitempty"` // or why a receiver refuses it
	Other   bool           `json:"other,omitempty"`   // not the shortest form: read, and never written
}

// step is one line of a conversation.
type step struct {
	Talk string `json:"talk"`
	vector
	Breach string `json:"breach,omitempty"` // why the receiver ends the connection here
}

// fieldsOf is what a body says, or why it is refused, as a receiver on the given side sees it.
func fieldsOf(b []byte, host bool) (map[string]any, error) {
	l := newLink(tape{bytes.NewReader(framed(b))})
	if l.cap = DefaultCap; len(b) > 1 && (b[1] == byte(hello) || b[1] == byte(welcome)) {
		l.cap = helloCap
	}
	b, err := l.read()
	if err != nil {
		return nil, err
	}
	if len(b) > 1 && b[1] == byte(hello) && host {
		h, err := decodeHello(b)
		return map[string]any{"type": "HELLO", "proto": Proto, "sdk": h.SDK, "verbs": list(h.Verbs), "probe": h.Probe}, err
	}
	if len(b) > 1 && b[1] == byte(welcome) && !host {
		w, err := decodeWelcome(b)
		return map[string]any{"type": "WELCOME", "proto": Proto, "id": w.Self.ID, "name": w.Self.Name, "epoch": w.Epoch, "frame_cap": w.Cap, "window": w.Window, "time_left_ms": w.Left.Milliseconds(), "limits": object(w.Limits), "verbs": list(w.Verbs)}, err
	}
	var m message
	if err := m.decode(b); err != nil {
		return nil, err
	}
	f := map[string]any{"type": m.kind.String()}
	if m.kind != ping && m.kind != pong && m.kind != exit {
		f["cid"] = m.cid
	}
	switch m.kind {
	case start:
		f["verb"], f["mode"], f["time_left_ms"], f["window"], f["headers"] = m.verb, m.mode, m.left, m.n, object(m.headers)
	case startAck:
		f["window"] = m.n
	case credit:
		f["bytes"] = m.n
	case cancelAck:
		f["state"] = m.n
	case ping, pong:
		f["number"] = m.n
	case cancel:
		f["by"], f["reason"], f["grace_ms"] = ref(m.by), m.reason, m.left
	case fail:
		e := map[string]any{"type": m.err.Type, "message": m.err.Message, "stack": m.err.Stack, "source": ref(m.err.Source), "relay": []any{}, "canceller": nil, "data": nil}
		for _, r := range m.err.Relay {
			e["relay"] = append(e["relay"].([]any), ref(r))
		}
		if m.err.Canceller != (Ref{}) {
			e["canceller"] = ref(m.err.Canceller)
		}
		if m.err.Data != nil {
			e["data"] = hex.EncodeToString(m.err.Data)
		}
		f["error"] = e
	}
	if m.payload != nil {
		f["payload"] = hex.EncodeToString(m.payload)
	}
	return f, nil
}

func ref(r Ref) []string { return []string{r.ID, r.Name} }

// object is m, also where it is nil: {} and not null.
func object[V any](m map[string]V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	return m
}

func list(l []string) []string { return append([]string{}, l...) }

// messageVectors are the messages that are written and read.
func messageVectors() (all []vector) {
	add := func(name, from string, b []byte) {
		all = append(all, vector{Name: name, From: from, Body: hex.EncodeToString(b)})
	}
	add("hello", "program", (&Hello{SDK: "python/1", Verbs: []string{"double", "größe"}}).append(nil))
	add("hello of a probe", "program", (&Hello{SDK: "x", Probe: true}).append(nil))
	add("welcome", "supervisor", (&Welcome{Self: workRef, Epoch: 3, Cap: 1 << 20, Window: 1 << 18, Left: 90e9, Limits: map[string]uint64{"memory": 1 << 28, "pids": 64}, Verbs: []string{VerbFind}}).append(nil))
	add("welcome, the least", "supervisor", (&Welcome{Self: Ref{"1", ""}, Epoch: 1, Cap: 4096, Window: 64}).append(nil))
	text := wire.AppendStr(nil, "payload")
	for name, m := range map[string]message{
		"a start":                           {kind: start, cid: 1, verb: "double", payload: []byte{21}},
		"b start with all that it can have": {kind: start, cid: 1<<53 - 1, verb: strings.Repeat("v", 128), mode: Dialog, left: 1 << 40, n: 1 << 18, headers: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "b": ""}, payload: text},
		"c start, payload nil":              {kind: start, cid: 128, verb: "v", payload: nilPayload},
		"d startack":                        {kind: startAck, cid: 2, n: 1 << 18}, "e started": {kind: started, cid: 2, payload: text},
		"f yield":  {kind: yield, cid: 70000, payload: []byte{0x82, 0xa1, 'a', 1, 0xa1, 'b', 0x93, 0xc3, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xc4, 2, 0xff, 0}},
		"g credit": {kind: credit, cid: 2, n: 65536}, "h stop": {kind: stop, cid: 2},
		"i return": {kind: giveBack, cid: 1, payload: []byte{42}}, "j return of a timestamp": {kind: giveBack, cid: 1, payload: []byte{0xd6, 0xff, 0x5e, 0, 0, 0}},
		"k error":                           {kind: fail, cid: 1, err: &RemoteError{Type: "ValueError", Message: "no such thing", Source: workRef}},
		"l error with all that it can have": {kind: fail, cid: 3, err: &RemoteError{Type: "main.QuotaError", Message: "3 of disk\nand more", Stack: "main.go:3", Source: Ref{"0.2", "inner"}, Relay: []Ref{hostRef, workRef}, Canceller: Ref{"0.9", "ü"}, Data: []byte{0x81, 0xa5, 'L', 'i', 'm', 'i', 't', 3}}},
		"m error of the connection":         {kind: fail, err: &RemoteError{Type: "sandboxd.Protocol", Message: "the peer broke the protocol: a frame of 0 bytes, want 1 to 1048576"}},
		"n cancel":                          {kind: cancel, cid: 2, by: hostRef, reason: "too late", left: 500}, "p cancelack": {kind: cancelAck, cid: 2},
		"r ping": {kind: ping, n: 1 << 53}, "s pong": {kind: pong, n: 0},
	} {
		add(name[2:]+"\x00"+name[:1], "either", m.append(nil))
	}
	add("cancel of the whole\x00o", "supervisor", (&message{kind: cancel, by: hostRef, reason: "over", left: 1000}).append(nil))
	add("cancelack of the whole\x00q", "program", (&message{kind: cancelAck, n: 1}).append(nil))
	add("exit\x00t", "program", (&message{kind: exit}).append(nil))
	sortVectors(all[4:])
	for name, b := range map[string][]byte{
		"ping, number in nine bytes": {0x92, 0xcc, 28, 0xcf, 0, 0, 0, 0, 0, 0, 0, 7}, "stop, array of 16 bits": {0xdc, 0, 2, 23, 2},
		"stop, signed number": {0x92, 23, 0xd1, 0, 2}, "start, long strings": {0x98, 18, 1, 0xdb, 0, 0, 0, 1, 'v', 0, 0, 0, 0xdf, 0, 0, 0, 0, 0xc0},
	} {
		all = append(all, vector{Name: name, From: "either", Body: hex.EncodeToString(b), Other: true})
	}
	sortVectors(all[len(all)-4:])
	return all
}

// sortVectors orders by what follows a zero byte of the name, or by the name.
func sortVectors(v []vector) {
	key := func(n string) string { _, k, _ := strings.Cut(n, "\x00"); return k + n }
	for i := range v {
		for j := i; j > 0 && key(v[j].Name) < key(v[j-1].Name); j-- {
			v[j], v[j-1] = v[j-1], v[j]
		}
	}
	for i := range v {
		v[i].Name, _, _ = strings.Cut(v[i].Name, "\x00")
	}
}

// refusedVectors are the bodies that are refused whenever they come.
func refusedVectors() (all []vector) {
	for _, b := range breaches() {
		raw, fixed := b.raw[0].([]byte)
		if b.at != "" || !fixed || len(b.raw) > 1 || len(raw) > 4<<10 {
			continue
		}
		if _, err := fieldsOf(raw, true); err == nil {
			continue // what makes it a breach is when it comes
		}
		all = append(all, vector{Name: b.name, From: "either", Body: hex.EncodeToString(raw)})
	}
	for name, b := range map[string][]byte{
		"hello of another version": {0x95, 16, 2, 0xa0, 0x90, 0}, "hello with an unknown flag": {0x95, 16, 1, 0xa0, 0x90, 2},
		"hello with an empty verb": {0x95, 16, 1, 0xa0, 0x91, 0xa0, 0}, "hello without flags": {0x94, 16, 1, 0xa0, 0x90},
	} {
		all = append(all, vector{Name: name, From: "program", Body: hex.EncodeToString(b)})
	}
	sortVectors(all[len(all)-4:])
	return append(all, vector{Name: "welcome with frames of no use", From: "supervisor", Body: hex.EncodeToString((&Welcome{Self: workRef, Epoch: 1, Cap: 100, Window: 64}).append(nil))})
}

// talks are whole conversations, and those that break the protocol.
func talks() (all []step) {
	var name string
	say := func(from string, b []byte, breach string) {
		all = append(all, step{name, vector{Name: fmt.Sprint(len(all)), From: from, Body: hex.EncodeToString(b)}, breach})
	}
	greet := func(n string) {
		name = n
		say("program", (&Hello{SDK: "x", Verbs: []string{"d"}}).append(nil), "")
		say("supervisor", (&Welcome{Self: workRef, Epoch: 1, Cap: DefaultCap, Window: DefaultWindow}).append(nil), "")
	}
	const p, s = "program", "supervisor"
	greet("a call, and the end")
	say(s, body(start, 2, "d", 0, 1000, 0, noHeaders, 21), "")
	say(p, body(giveBack, 2, 42), "")
	say(s, body(ping, 1), "")
	say(p, body(pong, 1), "")
	say(s, body(cancel, 0, []any{"0", "supervisor"}, "over", 500), "")
	say(p, body(cancelAck, 0, 0), "")
	say(p, body(exit), "")
	greet("a dialog")
	say(s, body(start, 2, "d", 1, 0, 128, noHeaders, nil), "")
	say(p, body(startAck, 2, 64), "")
	say(p, body(started, 2, "hi"), "")
	for _, m := range []struct {
		from string
		b    []byte
	}{{s, body(yield, 2, 1)}, {p, body(credit, 2, 64)}, {p, body(yield, 2, 1)}, {p, body(yield, 2, 2)}, {s, body(credit, 2, 64)}, {s, body(stop, 2)}, {p, body(stop, 2)}, {p, body(giveBack, 2, nil)}, {s, body(credit, 2, 64)}} {
		say(m.from, m.b, "")
	}
	greet("a cancel that crosses the result")
	say(p, body(start, 1, "sandboxd.find", 0, 0, 0, noHeaders, map[string]string{"name": "x"}), "")
	say(p, body(cancel, 1, []any{"0.1", "worker"}, "late", 500), "")
	say(s, body(giveBack, 1, []any{}), "")
	for _, b := range breaches() {
		if b.to == "host" && b.at == "" || b.at == "" && len(b.raw) == 1 {
			continue
		}
		for _, host := range []bool{true, false} {
			if b.to == "host" && !host || b.to == "program" && host {
				continue
			}
			me, they, theirs, ours := s, p, 1, 2
			if !host {
				me, they, theirs, ours = p, s, 2, 1
			}
			greet(b.name + ", seen by the " + me)
			switch b.at {
			case "served":
				say(they, body(start, theirs, "d", 1, 0, 1000, noHeaders, nil), "")
				say(me, body(startAck, theirs, 1000), "")
			case "opened":
				say(me, body(start, ours, "d", 1, 0, 1000, noHeaders, nil), "")
			case "asked":
				say(me, body(start, ours, "d", 0, 0, 0, noHeaders, nil), "")
			}
			for i, raw := range b.raw {
				breach := ""
				if i == len(b.raw)-1 {
					breach = "sandboxd.Protocol"
				}
				say(they, numbered(raw, theirs, ours), breach)
			}
		}
	}
	return all
}

// TestVectors checks the files that other implementations are tested with.
func TestVectors(t *testing.T) {
	see := func(v *vector) {
		b, err := hex.DecodeString(v.Body)
		if err != nil {
			t.Fatal(err)
		}
		f, err := fieldsOf(b, v.From != "supervisor")
		switch {
		case err == nil:
			v.Fields = f
		case errors.Is(err, ErrProtocol):
			v.Refused = strings.TrimPrefix(err.Error(), ErrProtocol.Error()+": ")
		default:
			t.Errorf("%s: %v", v.Name, err)
		}
	}
	lines := func(n int, line func(i int) any) []byte {
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		for i := range n {
			if err := e.Encode(line(i)); err != nil {
				t.Fatal(err)
			}
		}
		return out.Bytes()
	}
	good, bad, talk := messageVectors(), refusedVectors(), talks()
	files := map[string][]byte{
		"messages.jsonl": lines(len(good), func(i int) any {
			if see(&good[i]); good[i].Refused != "" {
				t.Errorf("%s: refused: %s", good[i].Name, good[i].Refused)
			}
			return good[i]
		}),
		"refused.jsonl": lines(len(bad), func(i int) any {
			if see(&bad[i]); bad[i].Refused == "" {
				t.Errorf("%s: not refused", bad[i].Name)
			}
			return bad[i]
		}),
		"talks.jsonl": lines(len(talk), func(i int) any { see(&talk[i].vector); return talk[i] }),
	}
	for name, want := range files {
		path := filepath.Join("../testdata/vectors", name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the code says (%v): go test ./ipc/session -run TestVectors -update", path, err)
		}
	}
}

// TestTalks plays the conversations: the receiver of a breach ends the connection there, and nobody does before.
func TestTalks(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		all := talks()
		for len(all) > 0 {
			n := 1
			for n < len(all) && all[n].Talk == all[0].Talk {
				n++
			}
			talk := all[:n]
			all = all[n:]
			last := talk[n-1]
			if last.Breach == "" || last.From == "supervisor" && strings.Contains(last.Talk, "by the supervisor") && !strings.HasSuffix(last.Talk, "program") {
				continue
			}
			t.Run(last.Talk, func(t *testing.T) {
				var mux Mux
				mux.Add("d", Dialog, hang)
				host := last.From == "program"
				s, p := scripted(t, over, host, false, Options{Mux: &mux, Window: 1000})
				for _, st := range talk[2:] {
					b, _ := hex.DecodeString(st.Body)
					if st.From == last.From {
						p.raw(framed(b))
						continue
					}
					switch kind(b[1]) { // what the session says
					case start:
						ctx := bounded(t)
						if b[5] == 1 {
							if _, err := s.Open(ctx, "d", nil); err != nil {
								t.Fatal(err)
							}
						} else {
							go s.Call(ctx, "d", nil)
						}
						p.want(start)
					case startAck:
						p.want(startAck)
					}
				}
				<-s.Done()
				if err := s.Err(); !errors.Is(err, ErrProtocol) {
					t.Error(err)
				}
			})
		}
	})
}
