// Package repo holds the tests of the repository itself: which package may
// import which, what every package and exported name must say about itself,
// what no file may contain, and what the licences of the dependencies ask for.
//
//	go test ./internal/repo            # says what is wrong
//	go test ./internal/repo -update    # rewrites what is derived: the layer rules in .golangci.yml, and THIRD_PARTY
//
// The rules on imports live in rules_test.go and nowhere else; golangci-lint
// reads the copy that -update writes.
//
// Non-goals: behaviour (every package tests its own), and style that
// golangci-lint already checks.
package repo
