package ipc

import (
	"errors"
	"fmt"
	"syscall"
)

// Every error of this package wraps one of these, the error of a system call,
// the end of a context, or os.ErrClosed where our own side closed.
var (
	// ErrFrameTooLarge: the declared or given length exceeds the cap.
	ErrFrameTooLarge = errors.New("frame exceeds the cap")
	// ErrMalformed: the bytes are not the layout of the message they claim to be.
	ErrMalformed = errors.New("malformed message")
	// ErrUnexpected: a message that has no place here in the conversation.
	ErrUnexpected = errors.New("unexpected message")
	// ErrPeerGone: the peer closed the connection or died.
	ErrPeerGone = errors.New("peer is gone")
	// ErrStranger: kernel credentials are not those of the process awaited.
	ErrStranger = errors.New("peer is a stranger")
	// ErrTooManyStrangers: others than the process awaited kept connecting.
	ErrTooManyStrangers = errors.New("too many strangers")
	// ErrDescriptors: more descriptors came than the message may carry.
	ErrDescriptors = errors.New("unwanted descriptors")
	// ErrRefused: the right process said the wrong Hello.
	ErrRefused = errors.New("handshake refused")
)

// HandshakeError says which field of a Hello was wrong.
type HandshakeError struct {
	Field     string // "proto", "actor", "epoch" or "nonce"
	Got, Want string // empty for the nonce, which is a secret
}

func (e *HandshakeError) Error() string {
	if e.Got == "" && e.Want == "" {
		return fmt.Sprintf("ipc: handshake: %s differs from the one handed out: %v", e.Field, ErrRefused)
	}
	return fmt.Sprintf("ipc: handshake: %s is %s, want %s: %v", e.Field, e.Got, e.Want, ErrRefused)
}

// Unwrap returns ErrRefused.
func (e *HandshakeError) Unwrap() error { return ErrRefused }

// StepError is the init's report that a step of its plan failed. Step is the
// kind of the step, Index its position in the plan; the plan names both.
type StepError struct {
	Step, Index uint16
	Errno       syscall.Errno
}

func (e *StepError) Error() string {
	return fmt.Sprintf("ipc: init: step %d at index %d of its plan: %v", e.Step, e.Index, e.Errno)
}

// Unwrap returns the errno, so that errors.Is(err, fs.ErrNotExist) works.
func (e *StepError) Unwrap() error { return e.Errno }
