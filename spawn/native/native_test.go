package native_test

import (
	"context"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn"
	"sandboxd/spawn/native"
	"sandboxd/spawn/spawntest"
)

func TestMain(m *testing.M) { spawntest.Main(m, roles) }

var roles = map[string]func(){"attack": attack, "flood": flood}

// deadline turns a hang into a failure.
var deadline = hosttest.Patience(60)

func bounded(t testing.TB) context.Context { return hosttest.Bounded(t, deadline) }

func newBackend(testing.TB) spawn.Backend { return native.New(native.Options{}) }

var request = spawntest.Requests(0)

func TestConformance(t *testing.T) { spawntest.Run(t, newBackend, request, nil) }

func TestKills(t *testing.T) {
	spawntest.Kills(t, newBackend, request, spawntest.Launcher, spawntest.Init)
}

func TestAsUser(t *testing.T) { spawntest.AsUser(t, "TestFreshObject") }
