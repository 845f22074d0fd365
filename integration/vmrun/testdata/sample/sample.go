// Package sample is tested in a guest.
package sample

// Half is covered by half.
func Half(n int) int {
	if n == 0 {
		return -1
	}
	return n / 2
}
