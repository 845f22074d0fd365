package landlock

import "golang.org/x/sys/unix"

// right is one bit of a mask of <linux/landlock.h>.
type right struct {
	bit  uint64
	abi  int    // first ABI that knows it
	name string // for Missing
	file bool   // a rule on something else than a directory may carry it
}

var fsRights = []right{
	{unix.LANDLOCK_ACCESS_FS_EXECUTE, 1, "fs.execute", true},
	{unix.LANDLOCK_ACCESS_FS_WRITE_FILE, 1, "fs.write_file", true},
	{unix.LANDLOCK_ACCESS_FS_READ_FILE, 1, "fs.read_file", true},
	{unix.LANDLOCK_ACCESS_FS_READ_DIR, 1, "fs.read_dir", false},
	{unix.LANDLOCK_ACCESS_FS_REMOVE_DIR, 1, "fs.remove_dir", false},
	{unix.LANDLOCK_ACCESS_FS_REMOVE_FILE, 1, "fs.remove_file", false},
	{unix.LANDLOCK_ACCESS_FS_MAKE_CHAR, 1, "fs.make_char", false},
	{unix.LANDLOCK_ACCESS_FS_MAKE_DIR, 1, "fs.make_dir", false},
	{unix.LANDLOCK_ACCESS_FS_MAKE_REG, 1, "fs.make_reg", false},
	{unix.LANDLOCK_ACCESS_FS_MAKE_SOCK, 1, "fs.make_sock", false},
	{unix.LANDLOCK_ACCESS_FS_MAKE_FIFO, 1, "fs.make_fifo", false},
	{unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK, 1, "fs.make_block", false},
	{unix.LANDLOCK_ACCESS_FS_MAKE_SYM, 1, "fs.make_sym", false},
	{unix.LANDLOCK_ACCESS_FS_REFER, 2, "fs.refer", false},
	{unix.LANDLOCK_ACCESS_FS_TRUNCATE, 3, "fs.truncate", true},
	{unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, 5, "fs.ioctl_dev", true},
	{unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX, 9, "fs.resolve_unix", true},
}

var netRights = []right{
	{unix.LANDLOCK_ACCESS_NET_BIND_TCP, 4, "net.bind_tcp", false},
	{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, 4, "net.connect_tcp", false},
	{unix.LANDLOCK_ACCESS_NET_BIND_UDP, 10, "net.bind_udp", false},
	{unix.LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP, 10, "net.connect_send_udp", false},
}

var scopes = []right{
	{unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, 6, "scope.abstract_unix_socket", false},
	{unix.LANDLOCK_SCOPE_SIGNAL, 6, "scope.signal", false},
}

// What the lists of [Paths] grant. Nothing grants making device nodes.
const (
	grantRead     = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	grantReadExec = grantRead | unix.LANDLOCK_ACCESS_FS_EXECUTE
	// Truncate comes with write: creat(2) on an existing file needs both.
	grantReadWrite = grantRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
	grantDevice = grantRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	grantSocket = unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
)

// split returns the mask of the rights that abi knows and the others by name.
func split(rights []right, abi int) (mask uint64, missing []string) {
	for _, r := range rights {
		if r.abi <= abi {
			mask |= r.bit
		} else {
			missing = append(missing, r.name)
		}
	}
	return mask, missing
}

// fileMask is the mask of the rights that a rule on a file may carry.
func fileMask() (mask uint64) {
	for _, r := range fsRights {
		if r.file {
			mask |= r.bit
		}
	}
	return mask
}
