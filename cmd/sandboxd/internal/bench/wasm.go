package bench

import (
	"errors"
	"os"
	"path/filepath"
)

// returns is a WebAssembly module whose _start returns.
const returns = "\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x07\x0a\x01\x06_start\x00\x00" + "\x0a\x04\x01\x02\x00\x0b"

// NewWasmCommand measures the whole command self, which runs a module as small as there is.
func NewWasmCommand(w *Workspace, self string) (Subject, error) {
	dir := filepath.Join(w.dir, "modules")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "returns.wasm"), []byte(returns), 0o644)); err != nil {
		return nil, err
	}
	return NewCommand("sandboxd run wasm", self, "run", "--backend", "wasm", "--mount", dir+":/mnt", "--", "/mnt/returns.wasm"), nil
}
