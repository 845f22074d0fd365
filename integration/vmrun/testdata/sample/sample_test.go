package sample

import (
	"os"
	"testing"
)

func TestHalf(t *testing.T) {
	b, err := os.ReadFile("testdata/.hidden/input")
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != "packed\n" || os.Getuid() != 0 {
		t.Fatalf("%q as uid %d", b, os.Getuid())
	}
	if Half(4) != 2 {
		t.Error("4 is not 2 and 2")
	}
}

func TestFails(t *testing.T) {
	if os.Getenv("FAIL") != "" {
		t.Error("as asked")
	}
}
