// PID 1 of one sandbox: the handshake, then the program's parent.
//
// Nothing here trusts the program and nothing outside trusts this process: it
// shares the sandbox with hostile code and holds no secret. It parses exactly
// one message (Welcome) of a fixed layout.
#include "init.h"

enum { ORPHANED = 34 }; // the signal of a launcher's death, where no pid namespace ends this process with it

_Noreturn void quit(int code) {
	for (;;) sys(__NR_exit_group, code);
}

long read_full(int fd, void *buf, u64 len) {
	u8 *p = buf;
	while (len) {
		long r = sys(__NR_read, fd, p, len);
		if (r == -EINTR) continue;
		if (r <= 0) return r ? r : -EPIPE;
		p += r, len -= (u64)r;
	}
	return 0;
}

// send_frame sends one short frame, with a descriptor when pass >= 0.
long send_frame(int fd, const u8 *body, u32 len, int pass) {
	u8 head[4] = {(u8)len, (u8)(len >> 8), (u8)(len >> 16), (u8)(len >> 24)};
	struct iovec iov[2] = {{head, 4}, {(void *)body, len}};
	struct { struct cmsghdr h; int fd, pad; } ctl = {{sizeof ctl.h + sizeof(int), SOL_SOCKET_, SCM_RIGHTS_}, pass, 0};
	struct msghdr m = {.iov = iov, .iovlen = 2};
	if (pass >= 0) m.control = &ctl, m.controllen = sizeof ctl;
	long r = sys(__NR_sendmsg, fd, &m, MSG_NOSIGNAL_);
	return r < 0 ? r : r == 4 + (long)len ? 0 : -EPIPE;
}

static u8 *put(u8 *p, u8 tag, u64 v, int bytes) { // a msgpack integer of the width that tag names
	*p++ = tag;
	while (bytes--) *p++ = (u8)(v >> (bytes * 8));
	return p;
}

static u64 get(const u8 *p, int bytes) {
	u64 v = 0;
	while (bytes--) v = v << 8 | *p++;
	return v;
}

// receive_welcome reads [2, epoch, plan] and keeps the plan for the second half.
long receive_welcome(struct ctx *c) {
	static u8 small[8192] __attribute__((aligned(16)));
	u8 head[4], *b = small;
	long r = read_full(c->conn, head, 4);
	if (r < 0) return r;
	u64 len = head[0] | head[1] << 8 | head[2] << 16 | (u64)head[3] << 24;
	if (len < 16 || len > (1 << 20) + 64) return -EMSGSIZE;
	if (len > sizeof small) {
		long m = sys(__NR_mmap, 0, len, 3, 0x22, -1, 0);
		if (m < 0 && m > -4096) return m;
		b = (u8 *)m;
	}
	if ((r = read_full(c->conn, b, len)) < 0) return r;
	if (b[0] != 0x93 || b[1] != 2 || b[2] != 0xcf || get(b + 3, 8) != c->epoch || b[11] != 0xc6 || get(b + 12, 4) != len - 16) return -EPROTO;
	c->rest = b + 16, c->rest_len = (u32)(len - 16);
	c->fail->section = SECTION_AFTER;
	return 0;
}

long connect_peer(struct ctx *c, const char *path, u64 proto, u64 epoch, const char *actor, u32 actor_len, const char *nonce) {
	struct sockaddr_un a = {.sun_family = AF_UNIX_};
	u64 n = slen(path);
	u8 hello[160], *p = hello;
	if (n >= sizeof a.sun_path || actor_len > 64) return -ENAMETOOLONG;
	memcpy(a.sun_path, path, n);
	long fd = sys(__NR_socket, AF_UNIX_, SOCK_STREAM_ | SOCK_CLOEXEC_, 0), r = fd;
	if (fd < 0 || (r = sys(__NR_connect, fd, &a, sizeof a)) < 0) return r;
	c->conn = (int)fd, c->epoch = epoch;
	*p++ = 0x96, *p++ = 1;
	p = put(p, 0xcc, proto, 1);
	*p++ = 0xd9, *p++ = (u8)actor_len;
	memcpy(p, actor, actor_len);
	p = put(p + actor_len, 0xcf, epoch, 8);
	*p++ = 0xc4, *p++ = 16;
	memcpy(p, nonce, 16);
	p = put(p + 16, 0xce, (u64)sys(__NR_getpid), 4);
	return send_frame(c->conn, hello, (u32)(p - hello), -1);
}

static long send_u32(struct ctx *c, u8 type, u64 v, int pass) {
	u8 b[7] = {0x92, type};
	put(b + 2, 0xce, v, 4);
	return send_frame(c->conn, b, sizeof b, pass);
}

// kill_children ends everything below this process, but for what is spared, where no pid namespace does it: orphans
// come to a subreaper, so the list is empty only when all are dead.
void kill_children(int (*spare)(long pid)) {
	char path[64] = "/proc/self/task/", num[24], *t = utoa((u64)sys(__NR_gettid), num + sizeof num);
	u64 n = slen(path), m = slen(t);
	memcpy(path + n, t, m);
	memcpy(path + n + m, "/children", 10);
	for (int empty = 0; empty < 3;) { // proc(5): a listing may miss some while others exit
		static char buf[4096];
		long fd = sys(__NR_openat, AT_FDCWD_, path, O_RDONLY | O_CLOEXEC, 0), len = fd < 0 ? fd : sys(__NR_read, fd, buf, sizeof buf);
		if (fd >= 0) sys(__NR_close, fd);
		long pid = 0, last = 0;
		for (long i = 0; i < len; i++) {
			if (buf[i] >= '0' && buf[i] <= '9') pid = pid * 10 + buf[i] - '0';
			else if (pid) {
				if (!spare || !spare(pid)) sys(__NR_kill, last = pid, SIGKILL);
				pid = 0;
			}
		}
		empty = last ? 0 : empty + 1;
		if (last) sys(__NR_wait4, last, 0, 0, 0);
	}
}

static _Noreturn void end(struct ctx *c, int code) {
	if (!c->pidns) kill_children(0);
	quit(code);
}

// hung_up is how the supervisor kills where no pid namespace would end what is below a killed init.
static _Noreturn void hung_up(struct ctx *c) {
	if (!c->pidns) kill_children(0), sys(__NR_kill, c->self, SIGKILL);
	quit(125);
}

// confine_self leaves init with nothing but what it needs: two descriptors, and CAP_KILL if the program has another uid.
static int confine_self(struct ctx *c) {
	u64 all = ~0ul;
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}};
	if (c->keep_kill) d[0].effective = d[0].permitted = 1u << CAP_KILL;
	sys(__NR_capset, &h, d);
	sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	sys(__NR_dup3, c->conn, 0, O_CLOEXEC);
	c->conn = 0;
	sys(__NR_close_range, 1, ~0u, 0);
	return (int)sys(__NR_signalfd4, -1, &all, 8, O_CLOEXEC | O_NONBLOCK);
}

// told passes on a signal that the supervisor cannot send, for this process is on another kernel than it. Anything else is the end.
static void told(struct ctx *c) {
	u8 b[8];
	if (read_full(c->conn, b, sizeof b) < 0 || b[0] != 4 || b[4] != 0x92 || b[5] != 8 || b[6] != 0xcc) hung_up(c);
	sys(__NR_kill, c->program, b[7]);
}

// serve forwards signals, reaps, and ends when the program or the supervisor does.
static _Noreturn void serve(struct ctx *c) {
	int sig = confine_self(c);
	if (sig < 0) end(c, 125); // it would never learn of the program's death
	struct pollfd p[2] = {{.fd = sig, .events = POLLIN}, {.fd = c->conn, .events = c->told ? POLLIN : POLLHUP}};
	for (;;) {
		sys(__NR_ppoll, p, 2, 0, 0, 8);
		for (;;) {
			struct signalfd_siginfo_raw si;
			if (sys(__NR_read, sig, &si, sizeof si) != sizeof si) break;
			// From inside, a sender has a pid here; only the supervisor, outside this pid namespace, shows as 0.
			if (si.signo == ORPHANED && !c->pidns) end(c, 125);
			if (si.signo != SIGCHLD && (!c->pidns || si.pid == 0)) sys(__NR_kill, c->program, si.signo);
		}
		int st;
		for (long pid; (pid = sys(__NR_wait4, -1, &st, WNOHANG, 0)) > 0;) {
			if (pid != c->program) continue;
			send_u32(c, 7, (u32)st, -1);
			end(c, st & 0x7f ? 128 + (st & 0x7f) : st >> 8 & 0xff);
		}
		if (p[1].revents & (POLLHUP | POLLERR)) hung_up(c);
		if (p[1].revents & POLLIN) told(c);
	}
}

_Noreturn void actor(struct ctx *c, const u8 *before, u32 len) {
	sys(__NR_prctl, PR_SET_NAME, "sandboxd-init", 0, 0, 0);
	c->self = sys(__NR_getpid);
	// A launcher that dies before the supervisor knows this process leaves nobody who could hang up.
	if (!c->pidns) sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (!c->pidns && sys(__NR_getppid) != c->launcher) quit(125);
	long r = run(c, before, len, SECTION_BEFORE);
	if ((r < 0 || c->program > 0) && c->fail->section != SECTION_AFTER) quit(125); // there was no Welcome
	if (!c->pidns) sys(__NR_prctl, PR_SET_PDEATHSIG, ORPHANED, 0, 0, 0);
	if (!r && c->program <= 0) r = run(c, c->rest, c->rest_len, SECTION_AFTER);
	if (!r) r = c->program > 0 ? send_u32(c, 3, (u64)c->program, c->master) : -EBADMSG; // a plan without a program
	if (!r) serve(c);
	if (!c->fail->err) c->fail->section = SECTION_AFTER, c->fail->step = FORK, c->fail->err = (u16)-r;
	u8 b[11] = {0x94, 0x04}, *p = put(b + 2, 0xcd, c->fail->step, 2);
	put(put(p, 0xcd, c->fail->index, 2), 0xcd, c->fail->err, 2);
	send_frame(c->conn, b, sizeof b, -1);
	end(c, 125);
}
