package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sandboxd/internal/hosttest"
)

func TestTalk(t *testing.T) {
	w := workspace(t)
	probe(t, NewNative(w, Cold))
	t.Setenv("PATH", "/nonexistent")
	rows, err := Talk(t.Context(), w, 2)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]Row{}
	for _, r := range rows {
		ids[r.ID] = r
	}
	if r := ids["call/64/grpc"]; len(rows) != 4 || r.Measured != nil || !strings.Contains(r.Note, "make bench builds it") {
		t.Errorf("without gRPC: %+v", rows)
	}
}

func TestTalkBesideGRPC(t *testing.T) {
	hosttest.NotInGuest(t, "the go command, and gRPC's modules")
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, grpcName), ".")
	build.Dir, build.Env = filepath.Join("..", "..", "..", "..", "bench", "grpc"), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		hosttest.Lack(t, "gRPC's modules, or they do not build: %v\n%s", err, out)
	}
	w := workspace(t)
	probe(t, NewNative(w, Cold))
	t.Setenv("PATH", dir)
	rows, err := Talk(t.Context(), w, 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 5 {
		t.Errorf("%+v", rows)
	}
	for _, r := range rows {
		if grpc := strings.HasSuffix(r.ID, "/grpc"); r.Measured == nil || *r.Measured <= 0 || (r.Limit == nil) != (r.ID == "call/1MiB/grpc") ||
			grpc && !strings.Contains(r.Note, "grpc-go") {
			t.Errorf("%+v", r)
		}
	}
}
