package landlock

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrUnsupported says that the kernel has no Landlock: not built in
// (CONFIG_SECURITY_LANDLOCK), or not among the LSMs enabled at boot (lsm=).
var ErrUnsupported = errors.New("landlock is not supported by this kernel")

var probe struct {
	mu  sync.Mutex // guards the rest
	abi int        // 0 until known
	err error      // ErrUnsupported once known
}

// ABI returns the Landlock ABI of the running kernel, 1 or more. The error
// matches [ErrUnsupported] where there is none; any other error is inconclusive.
// Conclusive answers are remembered.
func ABI() (int, error) {
	probe.mu.Lock()
	defer probe.mu.Unlock()
	if probe.abi != 0 || probe.err != nil {
		return probe.abi, probe.err
	}
	r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	abi, err := outcome(int(r), errno)
	if err == nil || errors.Is(err, ErrUnsupported) {
		probe.abi, probe.err = abi, err
	}
	return abi, err
}

func outcome(abi int, errno unix.Errno) (int, error) {
	switch errno {
	case 0:
		return abi, nil
	case unix.ENOSYS:
		return 0, fmt.Errorf("landlock: probe: %w: it is not built in, or a seccomp filter hides it (%w)", ErrUnsupported, errno)
	case unix.EOPNOTSUPP:
		return 0, fmt.Errorf("landlock: probe: %w: add landlock to the lsm= boot parameter (%w)", ErrUnsupported, errno)
	}
	return 0, fmt.Errorf("landlock: probe: landlock_create_ruleset: %w", errno)
}
