// Package abuse runs the shipped attack suite against the finished program, as
// root and as an ordinary user:
//
//	go test ./integration/abuse
//
// What attacks there are is the business of `sandboxd selftest`; docs/abuse.md
// lists them. Non-goals: attacks of its own, which package integration has in C.
package abuse
