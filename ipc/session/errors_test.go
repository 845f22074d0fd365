package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sandboxd/ipc/codec"
	"sandboxd/ipc/wire"
)

var errQuota = errors.New("over quota")

type (
	quotaError struct {
		Limit int
		Of    string
	}
	pointerError struct{ Path []string }
	emptyError   struct{}
	hiddenError  struct{ f func() }
	deepError    struct{ Data codec.Raw }
)

func (e quotaError) Error() string    { return fmt.Sprintf("%d of %s", e.Limit, e.Of) }
func (e *pointerError) Error() string { return strings.Join(e.Path, "/") }
func (e emptyError) Error() string    { return "empty" }
func (e hiddenError) Error() string   { return "hidden" }
func (e deepError) Error() string     { return "deep" }

func init() {
	RegisterError("test.quota", errQuota)
	RegisterErrorType[quotaError]("test.QuotaError")
	RegisterErrorType[*pointerError]("test.PointerError")
	RegisterErrorType[emptyError]("test.EmptyError")
	RegisterErrorType[deepError]("test.DeepError")
}

// crossed is err as it looks on the other side.
func crossed(t testing.TB, over transport, err error) error {
	t.Helper()
	var program Mux
	Handle(&program, "fail", func(context.Context, int) (int, error) { return 0, err })
	h, _ := pair(t, over, Options{}, Options{Mux: &program})
	_, got := Call[int, int](bounded(t), h, "fail", 1)
	if perr := h.Ping(bounded(t)); perr != nil {
		t.Errorf("%v ended the session: %v", err, perr)
	}
	return got
}

func TestErrorsCrossAsValues(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		for _, r := range []struct {
			err  error
			typ  string
			is   error
			says string
		}{
			{errQuota, "test.quota", errQuota, "over quota"},
			{fmt.Errorf("while saving: %w", errQuota), "test.quota", errQuota, "while saving: over quota"},
			{quotaError{3, "disk"}, "test.QuotaError", quotaError{3, "disk"}, "3 of disk"},
			{emptyError{}, "test.EmptyError", emptyError{}, "empty"},
			{hiddenError{}, "session.hiddenError", nil, "hidden"},
			{fmt.Errorf("around: %w", hiddenError{}), "session.hiddenError", nil, "around: hidden"},
			{errors.New("plain"), "errors.errorString", nil, "plain"},
			{errors.New(""), "errors.errorString", nil, "errors.errorString"},
			{errors.New("not text: \xff\xfe"), "errors.errorString", nil, "not text: \uFFFD"},
			{errors.New(strings.Repeat("ü", 20000)), "errors.errorString", nil, "üüü"},
			{deepError{append(bytes.Repeat([]byte{0x91}, 30), 0xc0)}, "test.DeepError", nil, "deep"},
			{context.DeadlineExceeded, "sandboxd.Deadline", context.DeadlineExceeded, "deadline"},
			{context.Canceled, "sandboxd.Cancelled", context.Canceled, "cancel"},
			{fmt.Errorf("%w: here", ErrDenied), "sandboxd.Denied", ErrDenied, "here"},
			{&Cancelled{Ref{"7", "x"}, "why"}, "sandboxd.Cancelled", context.Canceled, "cancelled by x (7): why"},
		} {
			got := crossed(t, over, r.err)
			e, ok := errors.AsType[*RemoteError](got)
			if !ok || e.Type != r.typ || r.is != nil && !errors.Is(got, r.is) || !strings.Contains(got.Error(), r.says) || e.Source != workRef || len(e.Relay) > 0 {
				t.Errorf("%v: %+v, want %s, %v, %q", r.err, e, r.typ, r.is, r.says)
			}
		}
		p, ok := errors.AsType[*pointerError](crossed(t, over, &pointerError{[]string{"a", "b"}}))
		if !ok || p.Error() != "a/b" {
			t.Error(p)
		}
		for _, s := range sentinels {
			if got := crossed(t, over, s.err); !errors.Is(got, s.err) {
				t.Errorf("%v: %v", s.err, got)
			}
		}
	})
}

func TestNamesOfErrorsAreTakenOnce(t *testing.T) {
	for name, f := range map[string]func(){
		"taken":     func() { RegisterError("test.quota", errors.New("x")) },
		"protocol":  func() { RegisterErrorType[hiddenError]("sandboxd.Mine") },
		"empty":     func() { RegisterError("", errors.New("x")) },
		"long":      func() { RegisterError(strings.Repeat("x", 129), errors.New("x")) },
		"interface": func() { RegisterErrorType[error]("test.any") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestErrorKeepsItsWholePathOverFourHops(t *testing.T) {
	var e error = quotaError{1, "pids"}
	hops := []Ref{{"0.1", "a"}, {"0", "host"}, {"0.2", "b"}, {"0", "host"}, {"0.3", "c"}}
	for _, self := range hops {
		b := Pack(fmt.Errorf("seen here: %w", e), self).append(nil)
		s := wire.NewScanner(b)
		e = scanError(&s)
		if s.Done() != nil {
			t.Fatal(s.Err())
		}
	}
	r, _ := errors.AsType[*RemoteError](e)
	if r.Source != hops[0] || fmt.Sprint(r.Relay) != fmt.Sprint(hops[1:]) || r.Type != "test.QuotaError" || !errors.Is(e, quotaError{1, "pids"}) {
		t.Errorf("%+v", r)
	}
	if want := "a (0.1): test.QuotaError: seen here: 1 of pids, passed on by host (0), b (0.2), host (0), c (0.3)"; r.Error() != want {
		t.Error(r.Error())
	}
	for range 100 { // longer than a path may be
		e = Pack(e, hops[1])
	}
	if r, _ := errors.AsType[*RemoteError](e); len(r.Relay) != maxRelay {
		t.Error(len(r.Relay))
	}
}

// Whatever a program claims of an error's origin, it came from the program or passed through it.
func TestSupervisorCorrectsTheSourceOfErrors(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		lie := Ref{"0.7", "innocent"}
		for _, r := range []struct {
			relay   []Ref
			source  Ref
			relayed string
		}{
			{nil, workRef, "[]"},
			{[]Ref{lie}, lie, "[worker (0.1)]"},
			{[]Ref{{"0", "host"}, lie}, lie, "[host (0) worker (0.1)]"},
		} {
			s, p := scripted(t, over, true, false, Options{})
			go func() {
				m := p.next()
				p.send(message{kind: fail, cid: m.cid, err: &RemoteError{Type: "X", Source: lie, Relay: r.relay}})
			}()
			_, err := s.Call(bounded(t), "v", nil)
			e, _ := errors.AsType[*RemoteError](err)
			if e.Source != r.source || fmt.Sprint(e.Relay) != r.relayed {
				t.Errorf("%+v", e)
			}
			p.send(message{kind: fail, err: &RemoteError{Type: "X", Source: lie}})
			<-s.Done()
			if e, ok := errors.AsType[*RemoteError](s.Err()); !ok || e.Source != workRef {
				t.Errorf("%v", s.Err())
			}
		}
	})
}

// Data of a type that is registered here, and not what it should be.
func TestHostileErrorDataRevivesNothing(t *testing.T) {
	for _, data := range [][]byte{
		{0xc0}, {0x90}, {0x80}, {0xc1}, {0x81, 0xa5, 'L', 'i', 'm', 'i', 't', 0xa1, 'x'}, {0x81, 0xa1, 'x', 0x01},
		{0xdd, 0xff, 0xff, 0xff, 0xff}, append(bytes.Repeat([]byte{0x91}, 40), 0xc0),
	} {
		for _, typ := range []string{"test.QuotaError", "test.PointerError", "test.quota", "sandboxd.Busy", "none"} {
			e := &RemoteError{Type: typ, Data: data}
			e.revive()
			_ = e.Error()
			if e.revived != nil {
				_ = e.revived.Error()
			}
			if typ == "test.QuotaError" && e.revived != nil && !bytes.Equal(data, []byte{0x80}) {
				t.Errorf("%x: %v", data, e.revived)
			}
		}
	}
}

// Of an error that is too large for a frame, what matters most arrives.
func TestLargeErrorIsCutToFit(t *testing.T) {
	big := &RemoteError{
		Type: "X", Message: strings.Repeat("m", maxMessage), Stack: strings.Repeat("s", maxStack), Source: workRef,
		Relay: make([]Ref, maxRelay), Data: append([]byte{0xc6, 0, 0x10, 0, 0}, make([]byte, 1<<20)...),
	}
	for most, want := range map[int]string{2 << 20: "data stack message", 1 << 20: "stack message", 20 << 10: "message", 4 << 10: "clipped"} {
		e := fit(big, most)
		m := message{kind: fail, cid: 1, err: e}
		if n := len(m.append(nil)); n > most {
			t.Errorf("%d: %d bytes", most, n)
		}
		got := "clipped"
		if len(e.Message) == maxMessage {
			got = "message"
			if e.Stack != "" {
				got = "stack " + got
			}
			if e.Data != nil {
				got = "data " + got
			}
		}
		if got != want {
			t.Errorf("%d: %s, want %s", most, got, want)
		}
	}
}
