package native

import "sandboxd/spawn"

// SetArchiveBytes changes what an unpacked archive may hold.
func SetArchiveBytes(n int64) (restore func()) {
	before := archiveBytes
	archiveBytes = func() int64 { return n }
	return func() { archiveBytes = before }
}

// ProgramUID is the program's uid as a supervisor with these Options sees it.
func ProgramUID(rootless bool, o Options, r *spawn.Request) int {
	return (&Backend{options: o, rootless: rootless}).programUID(r)
}
