package vmrun

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sandboxd/vm/guest"
)

// network brings the loopback up and, where the guest has a card, gives it the
// addresses that QEMU's user-mode network is made for.
func network(card bool) error {
	if err := up("lo"); err != nil {
		return err
	}
	if !card {
		return nil
	}
	var name string
	err := guest.Await("network card", func() bool {
		found, _ := filepath.Glob("/sys/class/net/*/device")
		if len(found) > 0 {
			name = filepath.Base(filepath.Dir(found[0]))
		}
		return name != ""
	})
	if err != nil {
		return err
	}
	// 10.0.2.15/24 by 10.0.2.2, names by 10.0.2.3 (QEMU, -netdev user).
	if err := address(unix.SIOCSIFADDR, name, [4]byte{10, 0, 2, 15}); err != nil {
		return err
	}
	if err := address(unix.SIOCSIFNETMASK, name, [4]byte{255, 255, 255, 0}); err != nil {
		return err
	}
	if err := up(name); err != nil {
		return err
	}
	if err := defaultRoute([4]byte{10, 0, 2, 2}); err != nil {
		return err
	}
	return os.WriteFile("/etc/resolv.conf", []byte("nameserver 10.0.2.3\n"), 0o644)
}

func control(what string, do func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = do(fd)
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("network: %s: %w", what, err)
	}
	return nil
}

func up(name string) error {
	return control("bring up "+name, func(fd int) error {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_UP)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
	})
}

func address(request uint, name string, ip [4]byte) error {
	return control("address of "+name, func(fd int) error {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(ip[:]); err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, request, r)
	})
}
