package seccomp

import (
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// foreignProgram writes a static program that makes one call through another
// ABI and exits with its errno, or with 1 if the call succeeds.
func foreignProgram(t *testing.T, nr uint32, entry []byte) string {
	t.Helper()
	code := append([]byte{0xb8}, binary.LittleEndian.AppendUint32(nil, nr)...)
	code = append(code, entry...)
	code = append(
		code,
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0xf7, 0xd8, // neg eax
		0x0f, 0x49, 0xf8, // cmovns edi, eax
		0xb8, 231, 0, 0, 0, // mov eax, exit_group
		0x0f, 0x05, // syscall
	)
	const base, headers = 0x400000, 64 + 56
	le := binary.LittleEndian
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, headers-7)...)
	le.PutUint16(elf[16:], 2)                         // ET_EXEC
	le.PutUint16(elf[18:], 62)                        // EM_X86_64
	le.PutUint32(elf[20:], 1)                         // EV_CURRENT
	le.PutUint64(elf[24:], base+headers)              // e_entry
	le.PutUint64(elf[32:], 64)                        // e_phoff
	le.PutUint16(elf[52:], 64)                        // e_ehsize
	le.PutUint16(elf[54:], 56)                        // e_phentsize
	le.PutUint16(elf[56:], 1)                         // e_phnum
	le.PutUint32(elf[64:], 1)                         // PT_LOAD
	le.PutUint32(elf[68:], 5)                         // readable, executable
	le.PutUint64(elf[80:], base)                      // p_vaddr
	le.PutUint64(elf[96:], uint64(headers+len(code))) // p_filesz
	le.PutUint64(elf[104:], uint64(headers+len(code)))
	le.PutUint64(elf[112:], 0x1000)
	file := filepath.Join(t.TempDir(), "foreign")
	if err := os.WriteFile(file, append(elf, code...), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestForeignCalls(t *testing.T) {
	for name, tt := range map[string]struct {
		nr    uint32
		entry []byte
		arch  Arch
	}{
		"i386 syscall 20": {20, []byte{0xcd, 0x80}, unix.AUDIT_ARCH_I386},
		"x32 syscall 39":  {x32Bit | 39, []byte{0x0f, 0x05}, AMD64},
	} {
		t.Run(name, func(t *testing.T) {
			program := foreignProgram(t, tt.nr, tt.entry)
			cmd := exec.Command(program)
			cmd.Run()
			if cmd.ProcessState.ExitCode() < 0 {
				t.Skipf("does not apply: this kernel has no entry for that ABI, %v", cmd.ProcessState)
			}
			cmd = helper(t, "exec", Options{}, program)
			cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != int(unix.ENOSYS) {
				t.Errorf("the call ended with %v, want errno %d", cmd.ProcessState, unix.ENOSYS)
			}
			cmd = helper(t, "exec", Options{Kill: true}, program)
			l, _ := start(t, cmd)
			n, err := l.Recv(t.Context())
			if err != nil || n.Syscall != name || n.Arch != tt.arch {
				t.Errorf("received %+v, %v", n, err)
			}
			cmd.Process.Kill()
			if _, err := l.Recv(t.Context()); err != io.EOF {
				t.Errorf("after the kill: %v", err)
			}
		})
	}
}
