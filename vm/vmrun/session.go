package vmrun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sandboxd/vm/guest"
)

// guestError is the guest's own word that it cannot do the job.
type guestError string

func (e guestError) Error() string { return "the guest could not do it: " + string(e) }

// hostError is a failure to hand on, here, what the guest sent.
type hostError struct{ error }

func (e hostError) Error() string {
	way := ""
	if errors.Is(e.error, syscall.ENOSPC) || errors.Is(e.error, syscall.EDQUOT) {
		way = "; free some space there"
	}
	return "what came back from the guest could not be written: " + e.error.Error() + way
}

func (e hostError) Unwrap() error { return e.error }

func here(err error) error {
	if err == nil {
		return nil
	}
	return hostError{err}
}

// session is the conversation of one boot.
type session struct {
	*runner
	job    *job
	conn   *guest.Conn
	phases phases
	accept map[string]bool // paths that may come back
}

// begin waits until the program is about to start.
func (s *session) begin() error {
	k, body, err := s.conn.Receive()
	switch {
	case err != nil:
		return err
	case k == failed:
		return guestError(guest.Printable(body))
	case k != ready:
		return fmt.Errorf("the guest began with a frame %q", k)
	}
	return json.Unmarshal(body, &s.phases)
}

// serve hands on what the guest sends, until the program's exit.
func (s *session) serve() (code int, err error) {
	var f *os.File // that comes back
	end := func() error {
		if f == nil {
			return nil
		}
		err := f.Close()
		f = nil
		return here(err)
	}
	defer func() { err = errors.Join(err, end()) }()
	for {
		k, body, err := s.conn.Receive()
		if err != nil {
			return 0, err
		}
		if k != data {
			if err := end(); err != nil {
				return 0, err
			}
		}
		switch k {
		case stdout:
			_, err = s.out.Write(body)
			err = here(err)
		case stderr:
			_, err = s.errs.Write(body)
			err = here(err)
		case file:
			f, err = s.create(body)
		case data:
			if f == nil {
				return 0, errors.New("the guest sent content of no file")
			}
			_, err = f.Write(body)
			err = here(err)
		case failed:
			return 0, guestError(guest.Printable(body))
		case exited:
			var st status
			if err := json.Unmarshal(body, &st); err != nil {
				return 0, err
			}
			if st.Code < 0 || st.Code > 255 {
				return 0, fmt.Errorf("the guest says %d, which is no exit code", st.Code)
			}
			return st.Code, nil
		default:
			return 0, fmt.Errorf("the guest sent a frame %q", k)
		}
		if err != nil {
			return 0, err
		}
	}
}

// create makes a file that comes back. The guest chooses from what was asked
// for: the path itself, or below it where that is a directory here too.
func (s *session) create(body []byte) (*os.File, error) {
	var r returned
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, err
	}
	for asked := range s.accept {
		if r.Path == asked {
			f, err := os.OpenFile(asked, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
			return f, here(err)
		}
		if rel, ok := strings.CutPrefix(r.Path, asked+"/"); ok {
			if err := os.MkdirAll(asked, 0o755); err != nil {
				return nil, here(err)
			}
			// Nothing that is below it leads out of it (openat2 in os.Root).
			root, err := os.OpenRoot(asked)
			if err != nil {
				return nil, here(err)
			}
			defer root.Close()
			if dir := filepath.Dir(rel); dir != "." {
				if err := root.MkdirAll(dir, 0o755); err != nil {
					return nil, here(err)
				}
			}
			f, err := root.OpenFile(rel, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
			return f, here(err)
		}
	}
	return nil, fmt.Errorf("the guest sends a file that nobody asked for: %q", r.Path)
}

// feed sends our standard input. It ends with the port, or hangs in a read
// until the process ends.
func (s *session) feed(in io.Reader) {
	if in != nil {
		if err := s.conn.SendAll(stdin, in); err != nil {
			return
		}
	}
	_ = s.conn.Send(stdin, nil)
}
