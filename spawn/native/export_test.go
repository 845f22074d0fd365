package native

// SetArchiveBytes changes what an unpacked archive may hold.
func SetArchiveBytes(n int64) (restore func()) {
	before := archiveBytes
	archiveBytes = func() int64 { return n }
	return func() { archiveBytes = before }
}
