package launcher

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

//go:generate ./init/build.sh amd64 init-amd64
//go:generate ./init/build.sh arm64 init-arm64

// mfdExec asks for an executable memfd where vm.memfd_noexec is set; kernels before 6.3 do not know the flag.
const mfdExec = 0x10

// Object is the minimal init of this machine, as built by init/build.sh. The
// rebuild test replaces it with a fresh one; nothing else may.
var Object = func() string { return object }

var (
	imageMu   sync.Mutex
	imageFile *os.File // nil until it could be made
)

// image is the sealed memfd that launchers are started from: an actor that finds a way to its file cannot write it.
func image() (*os.File, error) {
	imageMu.Lock()
	defer imageMu.Unlock()
	if imageFile != nil {
		return imageFile, nil
	}
	f, err := newImage()
	if err == nil {
		imageFile = f
	}
	return f, err
}

func newImage() (*os.File, error) {
	fd, err := unix.MemfdCreate("sandboxd-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|mfdExec)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("sandboxd-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("launcher: memfd_create: %w (an executable memory file is needed; check vm.memfd_noexec)", err)
	}
	f := os.NewFile(uintptr(fd), "sandboxd-init")
	if _, err := f.WriteString(Object()); err != nil {
		f.Close()
		return nil, fmt.Errorf("launcher: fill memfd: %w", err)
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("launcher: seal memfd: %w", err)
	}
	return f, nil
}
