package bench

const (
	tinyMachine = 183                  // EM_AARCH64
	tinyCode    = "\xe0\x03\x40\xb2" + // mov x0, #1
		"\xe1\x03\x00\x91" + // mov x1, sp
		"\xe2\x03\x40\xb2" + // mov x2, #1
		"\xe8\x03\x7a\xb2" + // mov x8, #64
		"\x01\x00\x00\xd4" + // svc #0: write(1, sp, 1)
		"\xe9\x03\x40\xf9" + // ldr x9, [sp]: argc
		"\x3f\x05\x00\xf1" + // cmp x9, #1
		"\x88\x00\x00\x54" + // b.hi hold
		"\xe0\x03\x1f\xaa" + // mov x0, #0
		"\xa8\x0b\x80\xd2" + // mov x8, #93
		"\x01\x00\x00\xd4" + // svc #0: exit(0)
		"\xe0\x03\x1f\xaa" + // hold: mov x0, #0
		"\xe1\x03\x1f\xaa" + // mov x1, #0
		"\xe2\x03\x1f\xaa" + // mov x2, #0
		"\xe3\x03\x1f\xaa" + // mov x3, #0
		"\x28\x09\x80\xd2" + // mov x8, #73
		"\x01\x00\x00\xd4" + // svc #0: ppoll(0, 0, 0, 0)
		"\xfa\xff\xff\x17" // b hold
)
