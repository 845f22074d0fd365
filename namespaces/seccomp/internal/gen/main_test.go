package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
)

// needGo skips in a guest, which runs what was built elsewhere.
func needGo(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("does not apply: the generator is for where the go command is: %v", err)
	}
}

func TestTablesAreUpToDate(t *testing.T) {
	needGo(t)
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../tables.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("tables.go is not what the generator writes: run go generate in the folder of package seccomp")
	}
}

// The numbers agree with an independent table. That one also gives arm64 the
// *_time64 calls of 32-bit machines, and x/sys names calls that are newer, so
// only names that both know are compared.
func TestNumbersAgreeWithElastic(t *testing.T) {
	needGo(t)
	for name, info := range map[string]*arch.Info{"amd64": arch.X86_64, "arm64": arch.AARCH64} {
		ours, err := numbers(name)
		if err != nil {
			t.Fatal(err)
		}
		common := 0
		for call, nr := range ours {
			theirs, ok := info.SyscallNames[call]
			if !ok {
				continue
			}
			common++
			if nr != theirs {
				t.Errorf("%s: %s is %d, elastic has %d", name, call, nr, theirs)
			}
		}
		if common < 310 {
			t.Errorf("%s: only %d names in common", name, common)
		}
	}
}
