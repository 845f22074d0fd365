// The machine: raw system calls, the two assembly stubs, and the few kernel
// structures that the UAPI headers leave to libc. No libc is linked: a static
// binary without one reaches main in a third of the time (fewer page faults).
#pragma once
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/stat.h>
#include <linux/un.h>
#include <linux/wait.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

#if defined(__x86_64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}
#elif defined(__aarch64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
	register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#else
#error "sandboxd's init is written for x86_64 and aarch64"
#endif

// sys(nr, up to six arguments): the result or -errno, as the kernel gives it.
#define SYS_PICK(_0, _1, _2, _3, _4, _5, _6, N, ...) N
#define sys(...) SYS_PICK(__VA_ARGS__, S6, S5, S4, S3, S2, S1, S0)(__VA_ARGS__)
#define L(x) ((long)(x))
#define S0(n) sys6(n, 0, 0, 0, 0, 0, 0)
#define S1(n, a) sys6(n, L(a), 0, 0, 0, 0, 0)
#define S2(n, a, b) sys6(n, L(a), L(b), 0, 0, 0, 0)
#define S3(n, a, b, c) sys6(n, L(a), L(b), L(c), 0, 0, 0)
#define S4(n, a, b, c, d) sys6(n, L(a), L(b), L(c), L(d), 0, 0)
#define S5(n, a, b, c, d, e) sys6(n, L(a), L(b), L(c), L(d), L(e), 0)
#define S6(n, a, b, c, d, e, f) sys6(n, L(a), L(b), L(c), L(d), L(e), L(f))

// clone_fn clones with a stack of its own and calls fn(arg) there; fn never returns. tid is for CLONE_CHILD_CLEARTID.
long clone_fn(u64 flags, void *stack_top, void (*fn)(void *), void *arg, u32 *tid);

// What libc would have declared.
struct iovec { void *base; u64 len; };
struct msghdr { void *name; u32 namelen; struct iovec *iov; u64 iovlen; void *control; u64 controllen; u32 flags; };
struct cmsghdr { u64 len; int level, type; };
struct rusage_raw { i64 utime[2], stime[2], maxrss, ix, id, is, minflt, majflt, nswap, inblock, oublock, rest[5]; };
struct signalfd_siginfo_raw { u32 signo; int err, code; u32 pid, uid; u8 rest[108]; };

enum { AF_UNIX_ = 1, AF_INET_ = 2, SOCK_STREAM_ = 1, SOCK_DGRAM_ = 2, SOL_SOCKET_ = 1, SCM_RIGHTS_ = 1 };
enum { MSG_NOSIGNAL_ = 0x4000, MSG_CMSG_CLOEXEC_ = 0x40000000, MSG_CTRUNC_ = 8, MSG_TRUNC_ = 0x20, SOCK_CLOEXEC_ = O_CLOEXEC };
enum { AT_FDCWD_ = -100 };

void *memcpy(void *d, const void *s, u64 n);
void *memset(void *d, int c, u64 n);
