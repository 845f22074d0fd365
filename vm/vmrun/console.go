package vmrun

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"sandboxd/vm/guest"
)

// console keeps what a guest's kernel says: the end in memory, all of it in
// the file that the user named.
type console struct {
	mu   sync.Mutex
	b    []byte
	file *os.File // nil: none was named
	err  error    // of the file
}

// keptBytes are far more than a boot that succeeds prints.
const keptBytes = 256 << 10

func newConsole(path string) (*console, error) {
	if path == "" {
		return &console{}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("console log: %w", err)
	}
	return &console{file: f}, nil
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.b = append(c.b, p...)
	if n := len(c.b) - keptBytes; n > 0 {
		c.b = c.b[n:]
	}
	if c.file != nil && c.err == nil {
		_, c.err = c.file.Write(p)
	}
	return len(p), nil // the guest goes on
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return guest.Printable(c.b)
}

// show is the end of it, to follow an error.
func (c *console) show() string {
	const lines = 40
	text := strings.TrimSpace(c.text())
	if text == "" {
		return "; its console is empty"
	}
	all := strings.Split(text, "\n")
	return "; its console ends with\n    " + strings.Join(all[max(len(all)-lines, 0):], "\n    ")
}

// keep writes it to a file of dir, one for each program.
func (c *console) keep(dir, program string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(program)+".log")
	return path, os.WriteFile(path, []byte(c.text()), 0o644)
}

func (c *console) close() error {
	if c.file == nil {
		return nil
	}
	if err := c.file.Close(); c.err == nil {
		c.err = err
	}
	if c.err != nil {
		return fmt.Errorf("console log: %w", c.err)
	}
	return nil
}
