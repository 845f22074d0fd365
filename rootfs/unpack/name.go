package unpack

import (
	"fmt"
	"path"
	"strings"
)

const (
	maxPath = 4095 // PATH_MAX of limits.h without the NUL
	maxName = 255  // NAME_MAX
	// maxDepth is how many components a name may have. Links in the archive can
	// stack: a tree can get deeper than a name.
	maxDepth = 128
)

// clean checks the name of an entry and brings it to its shortest form:
// relative, without "." and empty components; "." alone is the root.
func clean(name string) (string, error) {
	if err := checkText(name); err != nil {
		return "", err
	}
	if name[0] == '/' {
		return "", fmt.Errorf("%w: it is absolute; archive names relative to the root", ErrEscape)
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "..":
			return "", fmt.Errorf(`%w: it has a ".."`, ErrEscape)
		case len(part) > maxName:
			return "", fmt.Errorf("%w: a component of %d bytes, limit %d", ErrName, len(part), maxName)
		case part != "" && part != ".":
			depth++
		}
	}
	if depth > maxDepth {
		return "", fmt.Errorf("%w: %d components, limit %d", ErrName, depth, maxDepth)
	}
	return path.Clean(name), nil
}

// checkText is what names and targets of symbolic links have in common.
func checkText(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(s) > maxPath:
		return fmt.Errorf("%w: %d bytes, limit %d", ErrName, len(s), maxPath)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%w: it has a NUL", ErrName)
	}
	return nil
}
