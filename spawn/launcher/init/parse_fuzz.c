// A hosted harness for the init under the address and undefined-behaviour
// sanitizers: parse_fuzz SEED ROUNDS <CORPUS. Every system call is answered by
// chance, so no step does anything; what is tested is what the init's own code
// does with the bytes of a plan and of Welcome. The corpus is a row of sections,
// each behind its length as a 32-bit number. A test builds and runs this.
#define sys6 machine_sys6
#include "sys.h"
#undef sys6
static long sys6(long n, long a, long b, long c, long d, long e, long f);
#include "step.c"
#include "actor.c"
#include "launch.c"

// Headers of libc and of the kernel do not mix.
int _setjmp(long *env) __attribute__((returns_twice));
_Noreturn void longjmp(long *env, int value);
void *malloc(u64 n);
void *calloc(u64 n, u64 each);
void free(void *p);
long read(int fd, void *p, u64 n);
long strtol(const char *s, char **end, int base);
int dprintf(int fd, const char *format, ...);
_Noreturn void exit(int code);

static u64 state;

static u64 chance(void) { // xorshift
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return state;
}

static long escape[64];
static const u8 *incoming; // what reads from descriptors find, and how much
static u64 incoming_len;
static void *mapped[16];
static int nmapped;

static int hostile(void) { return chance() % 8 == 0; }

static long sys6(long n, long a, long b, long c, long d, long e, long f) {
	(void)a, (void)d, (void)e, (void)f;
	switch (n) {
	case __NR_exit_group: longjmp(escape, 1);
	case __NR_mmap:
		if (hostile() || (u64)b > 1 << 26 || nmapped == 16) return -ENOMEM;
		return (long)(mapped[nmapped++] = malloc((u64)b));
	case __NR_read: {
		u64 len = (u64)c < incoming_len ? (u64)c : incoming_len;
		if (hostile() && len > 1) len = 1 + chance() % (len - 1);
		memcpy((void *)b, incoming, len);
		incoming += len, incoming_len -= len;
		return hostile() ? -EINTR * (long)!len : (long)len;
	}
	case __NR_write: return (long)(chance() % ((u64)c + 1));
	case __NR_sendmsg: return hostile() ? -EPIPE : (long)((struct msghdr *)b)->iov[0].len + (((struct msghdr *)b)->iovlen > 1 ? (long)((struct msghdr *)b)->iov[1].len : 0);
	case __NR_execve: case __NR_execveat: { // as the kernel would: every string is read to its end
		int at = n == __NR_execveat;
		for (const char **v = (const char **)(at ? c : b); *v; v++) slen(*v);
		for (const char **v = (const char **)(at ? d : c); *v; v++) slen(*v);
		slen((const char *)(at ? b : a));
		static const int errors[] = {ENOENT, ENOTDIR, EACCES, ENOEXEC, E2BIG};
		return -errors[chance() % 5];
	}
	case __NR_wait4: return -ECHILD;
	case __NR_futex: net.at_work = 0; return 0; // as the kernel would when the helper ends
	case __NR_openat2: case __NR_openat: case __NR_fsopen: case __NR_open_tree: case __NR_chdir: case __NR_mkdirat:
		slen((const char *)(n == __NR_fsopen || n == __NR_chdir ? a : b));
		// fall through
	default: return hostile() ? -(long)(1 + chance() % 133) : (long)(chance() % 64);
	}
}

long clone_fn(u64 flags, void *stack_top, void (*fn)(void *), void *arg, u32 *tid) {
	(void)flags, (void)stack_top, (void)tid;
	if (fn == make_netns) net.at_work = 0; // it would share our stack
	else if (chance() % 2) fn(arg);
	return hostile() ? -EAGAIN : 7;
}

static void mutate(u8 *p, u64 *len) {
	static const u64 odd[] = {0, 1, 7, 8, 15, 16, 63, 64, 254, 255, 256, 4095, 4096, 0x7fffffff, 0x80000000, 0xffffffff, ~0ul, ~0ul >> 1, 1ul << 61};
	for (u64 n = chance() % 6; n && *len; n--) {
		u64 at = chance() % *len, width = 1u << chance() % 4, v = odd[chance() % (sizeof odd / sizeof *odd)];
		switch (chance() % 4) {
		case 0: p[at] ^= (u8)(1 << chance() % 8); break;
		case 1: p[at] = (u8)chance(); break;
		case 2: memcpy(p + at, &v, width < *len - at ? width : *len - at); break;
		case 3: if (chance() % 4 == 0) *len = at; break;
		}
	}
}

static volatile struct fail failure;

static void round_of(const u8 *section, u64 len) {
	static struct ctx c;
	u8 *p = malloc(len ? len : 1); // exactly as long, so that a byte too far is seen
	memcpy(p, section, len);
	u64 used = len;
	mutate(p, &used);
	u8 *q = malloc(used ? used : 1);
	memcpy(q, p, used);
	u8 *reply = malloc(4 + 16 + used); // a Welcome with a mutated section, itself mutated at times
	const u8 head[20] = {(u8)(used + 16), (u8)((used + 16) >> 8), (u8)((used + 16) >> 16), 0, 0x93, 2, 0xcf, 0, 0, 0, 0, 0, 0, 0, 1, 0xc6, 0, (u8)(used >> 16), (u8)(used >> 8), (u8)used};
	memcpy(reply, head, 20);
	memcpy(reply + 20, q, used);
	incoming = reply, incoming_len = 20 + used;
	if (hostile()) {
		u64 part = chance() % 2 ? incoming_len : 20;
		mutate(reply, &part);
		if (part < 20) incoming_len = part;
	}
	if (!_setjmp(escape)) {
		init_ctx(&c);
		memset((void *)&failure, 0, sizeof failure);
		c.fail = &failure;
		c.socket = 0, c.rest = 0;
		run(&c, q, (u32)used, (u16)(chance() % 4));
		if (c.rest) run(&c, c.rest, c.rest_len, SECTION_AFTER);
	}
	free(p), free(q), free(reply);
	while (nmapped) free(mapped[--nmapped]);
}

int main(int argc, char **argv) {
	static u8 corpus[1 << 20];
	u64 len = 0, rounds = argc > 2 ? (u64)strtol(argv[2], 0, 10) : 1;
	state = argc > 1 ? (u64)strtol(argv[1], 0, 10) | 1 : 1;
	for (long n; (n = read(0, corpus + len, sizeof corpus - len)) > 0;) len += (u64)n;
	u64 done = 0, sections = 0;
	for (; done < rounds; done++) {
		sections = 0;
		for (u64 at = 0; at + 4 <= len; sections++) {
			u32 n;
			memcpy(&n, corpus + at, 4);
			if (n > len - at - 4) exit(2);
			round_of(corpus + at + 4, n);
			at += 4 + n;
		}
		if (!sections) exit(2);
	}
	dprintf(1, "%lu sections, %lu rounds\n", sections, done);
	return 0;
}
