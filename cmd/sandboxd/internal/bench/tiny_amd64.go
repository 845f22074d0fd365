package bench

const (
	tinyMachine = 62                       // EM_X86_64
	tinyCode    = "\xb8\x01\x00\x00\x00" + // mov $1, %eax
		"\x89\xc7" + // mov %eax, %edi
		"\x89\xc2" + // mov %eax, %edx
		"\x48\x89\xe6" + // mov %rsp, %rsi
		"\x0f\x05" + // syscall: write(1, sp, 1)
		"\x83\x3c\x24\x01" + // cmpl $1, (%rsp): argc
		"\x77\x09" + // ja hold
		"\xb8\x3c\x00\x00\x00" + // mov $60, %eax
		"\x31\xff" + // xor %edi, %edi
		"\x0f\x05" + // syscall: exit(0)
		"\xb8\x22\x00\x00\x00" + // hold: mov $34, %eax
		"\x0f\x05" + // syscall: pause()
		"\xeb\xf7" // jmp hold
)
