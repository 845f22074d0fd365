package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func goodHello() []byte {
	return framed((&Hello{SDK: "test/1", Verbs: []string{"a", "b"}}).append(nil))
}

func goodWelcome() []byte {
	return framed((&Welcome{Self: workRef, Epoch: 1, Cap: 1 << 20, Window: 1 << 18, Limits: map[string]uint64{"pids": 3}}).append(nil))
}

// meets lets a peer say bytes, and close if it may, to one side of the handshake;
// it returns what that side made of it, and what it answered.
func meets(t *testing.T, over transport, host bool, said []byte, closes bool) (answer []byte, err error) {
	t.Helper()
	a, b := over(t)
	heard := make(chan []byte, 1)
	go func() {
		if !host {
			if _, err := newLink(b).read(); err != nil {
				t.Error(err)
			}
		}
		_, _ = b.Write(said)
		if closes {
			b.Close()
		}
		all, _ := io.ReadAll(b)
		b.Close()
		heard <- all
	}()
	if host {
		var arrival *Arrival
		if arrival, err = Receive(bounded(t), a); err == nil {
			arrival.Refuse(errors.New("enough"))
		}
	} else {
		var s *Session
		if s, _, err = Join(bounded(t), a, Hello{}, Options{}); err == nil {
			s.Close()
		}
	}
	return <-heard, err
}

func TestHandshakeToldTruncated(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		for _, host := range []bool{true, false} {
			whole := goodWelcome()
			if host {
				whole = goodHello()
			}
			for n := range len(whole) {
				if _, err := meets(t, over, host, whole[:n], true); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("host %v, %d bytes: %v", host, n, err)
				}
			}
			if _, err := meets(t, over, host, whole, false); err != nil {
				t.Errorf("host %v: %v", host, err)
			}
		}
	})
}

func TestHandshakeRefusesWhatIsNoGreeting(t *testing.T) {
	many := make([]string, maxVerbs+1)
	for i := range many {
		many[i] = "v"
	}
	w := Welcome{Self: workRef, Epoch: 1, Cap: 100, Window: 1 << 18}
	rows := []struct {
		name string
		host bool
		said []byte
		want string
	}{
		{"garbage", true, []byte("GET / HTTP/1.1\r\n\r\n"), "a frame of 542393671 bytes"},
		{"garbage", false, []byte("HTTP/1.1 400 no\r\n"), "a frame of"},
		{"empty frame", true, framed(nil), "a frame of 0 bytes"},
		{"too long", true, framed(make([]byte, helloCap+1)), "want 1 to 16384"},
		{"too long", false, framed(make([]byte, helloCap+1)), "want 1 to 16384"},
		{"not one value", true, framed([]byte{0xc0, 0xc0}), "bytes follow the value"},
		{"no array", true, framed([]byte{0xc0}), "where HELLO belongs"},
		{"WELCOME", true, goodWelcome(), "WELCOME of 10 elements where HELLO belongs"},
		{"HELLO", false, goodHello(), "HELLO of 5 elements where WELCOME belongs"},
		{"wrong proto", true, framed([]byte{0x95, 16, 2, 0xa0, 0x90, 0}), "protocol version 2"},
		{"wrong proto", false, framed([]byte{0x9a, 17, 7, 0xa0, 0xa0, 1, 1, 1, 0, 0x80, 0x90}), "protocol version 7"},
		{"unknown flag", true, framed([]byte{0x95, 16, 1, 0xa0, 0x90, 2}), "out of range"},
		{"cut short", true, framed((&Hello{}).append(nil)[:3]), "exceeds the bytes left"},
		{"too many verbs", true, framed((&Hello{Verbs: many}).append(nil)), "1025 verbs"},
		{"empty verb", true, framed((&Hello{Verbs: []string{""}}).append(nil)), "verb is empty"},
		{"tiny frames", false, framed(w.append(nil)), "of no use"},
		{"an error of a call", false, framed((&message{kind: fail, cid: 3, err: &RemoteError{Type: "x"}}).append(nil)), "where WELCOME belongs"},
	}
	both(t, func(t *testing.T, over transport) {
		for _, r := range rows {
			answer, err := meets(t, over, r.host, r.said, false)
			if !errors.Is(err, ErrProtocol) || !strings.Contains(fmt.Sprint(err), r.want) {
				t.Errorf("%s, host %v: %v, want %q", r.name, r.host, err, r.want)
			}
			var m message
			if len(answer) < 5 {
				t.Errorf("%s, host %v: it was not told", r.name, r.host)
			} else if derr := m.decode(answer[4:]); derr != nil || m.kind != fail || m.cid != 0 || m.err.Type != "sandboxd.Protocol" {
				t.Errorf("%s, host %v: told %+v, %v", r.name, r.host, m, derr)
			}
		}
	})
}

func TestHandshakeWithSilentPeerEndsWithItsContext(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		a, b := over(t)
		defer b.Close()
		ctx, stop := context.WithCancelCause(t.Context())
		stop(errors.New("enough waiting"))
		if _, err := Receive(ctx, a); err == nil || !strings.Contains(err.Error(), "enough waiting") {
			t.Error(err)
		}
		a, b = over(t)
		defer b.Close()
		if _, _, err := Join(ctx, a, Hello{}, Options{}); err == nil || !strings.Contains(err.Error(), "enough waiting") {
			t.Error(err)
		}
	})
}

// A peer that says nonsense and does not listen to what is wrong cannot keep the door's goroutine.
func TestRefusingADeafPeerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipes(t)
		go b.Write(framed([]byte{0xc0}))
		if _, err := Receive(t.Context(), a); !errors.Is(err, ErrProtocol) {
			t.Error(err)
		}
		a, b = pipes(t)
		go b.Write(goodHello())
		arrival, err := Receive(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		arrival.Refuse(ErrBusy)
		if took := time.Since(began); took != lastWords {
			t.Error(took)
		}
	})
}

func TestProbeSeesTheWelcomeAndIsNobodysPeer(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		a, b := over(t)
		var host Mux
		host.Add("host.verb", Unary, hang)
		probed := make(chan error, 1)
		go func() {
			s, w, err := Join(bounded(t), b, Hello{Probe: true}, Options{})
			if s != nil || w.Self != workRef || fmt.Sprint(w.Verbs) != "[host.verb]" || w.Epoch != 7 {
				err = fmt.Errorf("%v %+v %w", s, w, err)
			}
			probed <- err
		}()
		arrival, err := Receive(bounded(t), a)
		if err != nil || !arrival.Probe {
			t.Fatal(err)
		}
		if s, err := arrival.Welcome(bounded(t), Welcome{Self: workRef, Epoch: 7}, Options{Mux: &host}); s != nil || err != nil {
			t.Error(s, err)
		}
		if err := <-probed; err != nil {
			t.Error(err)
		}
	})
}

func TestRefusedProgramIsToldWhy(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		a, b := over(t)
		joined := make(chan error, 1)
		go func() {
			_, _, err := Join(bounded(t), b, Hello{}, Options{})
			joined <- err
		}()
		arrival, err := Receive(bounded(t), a)
		if err != nil {
			t.Fatal(err)
		}
		arrival.Refuse(fmt.Errorf("%w: connected already", ErrBusy))
		if err := <-joined; !errors.Is(err, ErrBusy) || errors.Is(err, ErrProtocol) {
			t.Error(err)
		}
	})
}

func TestWelcomeTellsEverything(t *testing.T) {
	w := Welcome{Self: workRef, Epoch: 1 << 40, Cap: 1 << 21, Window: 1 << 10, Left: 90 * time.Second, Limits: map[string]uint64{"pids": 10, "memory": 1 << 63}, Verbs: []string{"x"}}
	got, err := decodeWelcome(w.append(nil))
	w.Limits["memory"] = maxNumber
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", w) {
		t.Errorf("%+v\n%+v %v", got, w, err)
	}
}

func TestTimeLeftIsRoundedUpAndNeverOverflows(t *testing.T) {
	for d, ms := range map[time.Duration]uint64{-1: 0, 0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2} {
		if got := millis(d); got != ms {
			t.Errorf("%v: %d", d, got)
		}
	}
	if d := duration(maxNumber); d <= 0 {
		t.Error(d)
	}
}
