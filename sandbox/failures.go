package sandbox

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// failures are what went wrong in a scope, in the order in which it became known.
type failures struct {
	real, slow []error
	more       int
}

// failuresKept bounds the errors that are kept of a scope, of either kind.
const failuresKept = 64

func (f *failures) add(err error) {
	list := &f.real
	if errors.Is(err, ErrTooSlow) {
		list = &f.slow
	}
	if len(*list) == failuresKept {
		f.more++
		return
	}
	*list = append(*list, err)
}

// fail records an actor's failure, and cancels the rest.
func (n *Nursery) fail(a *Actor, err error) {
	n.note(err)
	n.cancel(&CancelCause{By: a.Ref(), Reason: err.Error()})
}

// note records an error that cancels nobody. It is the scope's, however far above that is.
func (n *Nursery) note(err error) {
	for n.above != nil {
		n = n.above
	}
	n.mu.Lock()
	n.failures.add(err)
	n.mu.Unlock()
}

// result is what Run returns: the first real error, and the others joined to
// it. consequence says that the body's error is only that of the cancel.
func (n *Nursery) result(body error, consequence bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	cause := context.Cause(n.ctx)
	all := n.failures.real
	switch {
	case body == nil || consequence:
	case errors.Is(cause, body): // it came first, and is what cancelled the others
		all = append([]error{body}, slices.DeleteFunc(all, func(err error) bool { return sameDeath(body, err) })...)
	case !slices.ContainsFunc(all, func(err error) bool { return sameDeath(body, err) }):
		all = append(all, body)
	}
	all = append(all, n.failures.slow...)
	if n.failures.more > 0 {
		all = append(all, fmt.Errorf("and %d more", n.failures.more))
	}
	switch {
	case len(all) == 1:
		return all[0]
	case len(all) > 1:
		return errors.Join(all...)
	case n.own != nil && errors.Is(cause, n.own):
		return nil
	}
	return cause
}

var joinType = reflect.TypeOf(errors.Join(ErrCancelling))

// isConsequence tells an error that says no more than that everything was
// cancelled, for cause. Of joined errors, all must be such.
func isConsequence(err, cause error) bool {
	if list, ok := err.(interface{ Unwrap() []error }); ok && reflect.TypeOf(err) == joinType {
		for _, e := range list.Unwrap() {
			if !isConsequence(e, cause) {
				return false
			}
		}
		return true
	}
	if errors.Is(err, ErrTooSlow) {
		return false
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, ErrLost) || errors.Is(err, ErrCancelling) || errors.Is(err, cause)
}

// sameDeath tells that both errors tell of the end of the same life.
func sameDeath(a, b error) bool {
	x, okx := errors.AsType[*ActorError](a)
	y, oky := errors.AsType[*ActorError](b)
	return okx && oky && x.Actor.ID != "" && x.Actor == y.Actor
}
