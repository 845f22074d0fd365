package cgroup

import "errors"

// ErrClosed is returned by a Tree, and by the leaves in it, after Close.
var ErrClosed = errors.New("cgroup: tree is closed")

// Unavailable says that this host cannot do something for this caller: what,
// what was seen, and what would help.
type Unavailable struct {
	Controller Controller
	Observed   string
	Remedy     string
	Err        error // the system's answer, where there was one
}

func (e *Unavailable) Error() string {
	s := "cgroup: no " + e.Controller.String() + " here: " + e.Observed
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; " + e.Remedy
}

func (e *Unavailable) Unwrap() error { return e.Err }
