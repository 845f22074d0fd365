package launcher

import (
	"fmt"
	"io"
	"os"
	"strings"
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
	f, err := Sealed("sandboxd-init", strings.NewReader(Object()))
	if err != nil {
		return nil, fmt.Errorf("launcher: %w", err)
	}
	return f, nil
}

// Sealed is an executable memory file of what from holds, which nobody can
// change any more. The kernel calls it memfd:name, and since Linux 6.14 the
// process that executes it by descriptor too. The caller owns it.
func Sealed(name string, from io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|mfdExec)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create %s: %w (an executable memory file is needed; check vm.memfd_noexec)", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, from); err != nil {
		f.Close()
		return nil, fmt.Errorf("fill memfd %s: %w", name, err)
	}
	// Its owner may be the user of an actor that runs it, who must not take the exec bits from the others.
	// Kernels before 6.3 do not know that seal.
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_EXEC)
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memfd %s: %w", name, err)
	}
	return f, nil
}
