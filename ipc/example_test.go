package ipc_test

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"sandboxd/ipc"
)

// A step that failed keeps its errno.
func ExampleStepError() {
	var err error = fmt.Errorf("spawn: %w", &ipc.StepError{Step: 29, Index: 4, Errno: syscall.ENOENT})
	if step, ok := errors.AsType[*ipc.StepError](err); ok {
		fmt.Println("index", step.Index, "missing file:", errors.Is(err, fs.ErrNotExist))
	}
	// Output: index 4 missing file: true
}

// The bytes of a message are fixed, so that an init in C can write them.
func ExampleFailed() {
	m := ipc.Failed{Step: 7, Index: 12, Errno: uint16(syscall.ENOENT)}
	b, err := m.AppendBinary(nil)
	fmt.Printf("% x %v\n", b, err)
	// Output: 94 04 cd 00 07 cd 00 0c cd 00 02 <nil>
}
