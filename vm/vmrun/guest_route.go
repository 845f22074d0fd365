package vmrun

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rtentry is struct rtentry of <linux/route.h> on 64-bit machines.
type rtentry struct {
	_       uint64
	dst     unix.RawSockaddrInet4
	gateway unix.RawSockaddrInet4
	mask    unix.RawSockaddrInet4
	flags   uint16
	_       int16
	_       uint64
	_       uintptr
	_       int16
	dev     uintptr
	_       uint64
	_       uint64
	_       uint16
}

func defaultRoute(gateway [4]byte) error {
	r := rtentry{flags: unix.RTF_UP | unix.RTF_GATEWAY}
	r.dst.Family, r.gateway.Family, r.mask.Family = unix.AF_INET, unix.AF_INET, unix.AF_INET
	r.gateway.Addr = gateway
	return control("default route", func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errno
		}
		return nil
	})
}
