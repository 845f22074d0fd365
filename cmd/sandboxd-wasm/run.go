package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sys/unix"

	"sandboxd/spawn/wasm/job"
)

// program is a module that is ready to run.
type program struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	fresh    stored // its compiled form, where it was not at hand; no file: it was, or there is no room for it
}

// newProgram compiles the module and compares what it imports with what there is. Nothing of it runs.
func newProgram(ctx context.Context, j job.Job, module []byte, have stored) (_ *program, err error) {
	defer func() {
		if bad := recover(); bad != nil {
			err = &moduleError{unix.ENOEXEC, fmt.Sprintf("the compiler gave it up: %v", bad)}
		}
	}()
	room, cache := newRoom(have)
	defer room.close()
	// Without line numbers in traps: with them a compiled module is read eight bytes at a time, for seconds.
	config := wazero.NewRuntimeConfig().WithMemoryLimitPages(j.Pages).WithDebugInfoEnabled(false)
	if cache != nil {
		config = config.WithCompilationCache(cache)
	}
	ctx = experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0))
	p := &program{runtime: wazero.NewRuntimeWithConfig(ctx, config)}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, p.runtime); err != nil {
		return nil, err
	}
	if j.Peer {
		if err := offer(ctx, p.runtime); err != nil {
			return nil, err
		}
	}
	if p.compiled, err = p.runtime.CompileModule(ctx, module); err != nil && cache != nil && room.full(err) {
		_ = p.runtime.Close(ctx)
		return newProgram(ctx, j, module, stored{name: noRoom})
	}
	if err != nil {
		return nil, &moduleError{unix.ENOEXEC, "no module that runs here: " + err.Error()}
	}
	if err := p.fits(); err != nil {
		return nil, err
	}
	p.fresh = room.fresh()
	return p, nil
}

// fits says what the module lacks here.
func (p *program) fits() error {
	no := func(format string, args ...any) error {
		return &moduleError{unix.ENOEXEC, fmt.Sprintf(format, args...)}
	}
	for _, f := range p.compiled.ImportedFunctions() {
		module, name, _ := f.Import()
		host := p.runtime.Module(module)
		if host == nil && module == peerModule {
			return no("it talks to its supervisor, which did not offer to listen (sandbox.Spec.Peer)")
		}
		if host == nil {
			return no("it imports %s from %q, and all there is here is %s", name, module, wasi_snapshot_preview1.ModuleName)
		}
		have := host.ExportedFunctionDefinitions()[name]
		if have == nil || !slices.Equal(have.ParamTypes(), f.ParamTypes()) || !slices.Equal(have.ResultTypes(), f.ResultTypes()) {
			return no("it imports %s.%s, which is not there or takes something else", module, name)
		}
	}
	if len(p.compiled.ImportedMemories()) > 0 {
		return no("it imports a memory, and no WASI program does")
	}
	start := p.compiled.ExportedFunctions()["_start"]
	if start == nil || len(start.ParamTypes())+len(start.ResultTypes()) > 0 {
		return no("no program: it exports no function _start, so it is a library; build it as a WASI command")
	}
	return nil
}

// run runs the module to its end, which is the worker's.
func (p *program) run(ctx context.Context, j job.Job) {
	config := wazero.NewModuleConfig().WithName("").WithArgs(j.Argv...).
		WithStdin(os.Stdin).WithStdout(os.Stdout).WithStderr(os.Stderr).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep().WithRandSource(rand.Reader).
		WithFSConfig(wazero.NewFSConfig().WithDirMount("/", "/"))
	for _, kv := range j.Env {
		key, value, _ := strings.Cut(kv, "=")
		config = config.WithEnv(key, value)
	}
	_, err := p.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(reserve)), p.compiled, config)
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		os.Exit(int(exit.ExitCode() & 0xff)) // as exit_group(2) does
	}
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintf(os.Stderr, "%s: trap: %v\n", job.Program, err)
	_ = unix.Kill(os.Getpid(), unix.SIGABRT) // which no module can do by itself
	select {}
}
