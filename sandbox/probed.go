package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/sandbox/internal/lease"
	"sandboxd/spawn"
)

// works finds out whether a backend starts programs here: once for this Host,
// and where it does, once since the machine started. What does not work is
// tried again by the next Host, for somebody may have mended it.
func (h *Host) works(b spawn.Backend) error {
	h.probing.Lock()
	defer h.probing.Unlock()
	err, known := h.probed[b.Name()]
	if known {
		return err
	}
	mark, value := h.mark(b)
	if got, rerr := os.ReadFile(mark); value == "" || rerr != nil || string(got) != value {
		if err = b.Probe(context.Background()).Hold(); err == nil && value != "" {
			// Without the mark, as on a full disk, the next Host probes again.
			_ = h.writeMark(mark, value)
		}
	}
	if h.probed == nil {
		h.probed = map[string]error{}
	}
	h.probed[b.Name()] = err
	return err
}

// mark is the file that says of a backend that it worked, among the leases,
// where nobody else may write; and what it says then: on which start of the
// machine, by which program, made of which other files. "": it is not to be known.
func (h *Host) mark(b spawn.Backend) (name, value string) {
	if h.lease == nil {
		return "", ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", ""
	}
	parts := []string{strings.TrimSpace(string(boot))}
	programs := []string{"/proc/self/exe"}
	if made, ok := b.(interface{ Parts() ([]string, error) }); ok {
		parts, err := made.Parts()
		if err != nil {
			return "", ""
		}
		programs = append(programs, parts...)
	}
	for _, p := range programs {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			return "", ""
		}
		parts = append(parts, fmt.Sprint(st.Dev, st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec))
	}
	return filepath.Join(lease.Dir(), "works-"+b.Name()), strings.Join(parts, "\n") + "\n"
}

// writeMark replaces the file at once, for other Hosts may read it; what a
// killed one leaves half-way, the next owner of its lease writes over.
func (h *Host) writeMark(name, value string) error {
	tmp := name + "." + strconv.Itoa(h.lease.N)
	if err := os.WriteFile(tmp, []byte(value), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
