// The launcher: a single-threaded process without secrets that forks sandboxes
// for a supervisor. Forking from here is safe (no threads) and cheap (no heap).
//
// It is PID 1 of a pid namespace of its own: when its control socket reads EOF,
// because the supervisor died, it exits, and the kernel kills everything below.
// Descriptor 3 is the control socket (SOCK_SEQPACKET, one request or event per
// message, descriptors by SCM_RIGHTS). The structures are mirrored in wire.go.
#include "init.h"

enum { OP_RUN = 1, OP_SPAWN = 2, OP_REEXEC = 3, OP_KILL = 4 };
enum { EV_DONE = 1, EV_SPAWNED = 2, EV_FAILED = 3, EV_EXITED = 4 };
enum { F_KEEP_KILL = 1, F_DENY_SETGROUPS = 2, F_PIDNS = 4 };
enum { CTL = 3, MAX_CHILDREN = 32768, MAX_FDS = 24, NO_SLOT = 0xff };

struct req { u32 op, id; u64 clone_flags; u32 plan, before, uidmap, gidmap, nfds, flags, into, pad; };
struct event { u32 type, id; struct fail fail; i64 status, user_us, system_us, maxrss_kib, inblock, oublock; };
struct child { int pid; u32 id; char socket[108]; };

static struct child *children;    // live sandboxes, by slot; grows on touch
static volatile struct fail *fails; // shared with each child: how it reports a step that failed before it could connect
static u32 high;                  // slots in use or freed below this one
static int setup[SLOT_REQUEST];   // descriptors that earlier plans left
static int own_pidns;
static u8 buf[131072] __attribute__((aligned(16)));

static void die(void) {
	if (!own_pidns) kill_children(0);
	quit(0);
}

// send_event answers, if need be without descriptors: the kernel refuses them to a user who has too many under way
// (ETOOMANYREFS), and an actor may be that user. A supervisor that cannot be told anything would wait for ever.
static void send_event(struct event *e, int *fds, u32 nfds) {
	struct { struct cmsghdr h; int fd[4]; } ctl = {{sizeof(struct cmsghdr) + nfds * sizeof(int), SOL_SOCKET_, SCM_RIGHTS_}, {0}};
	struct iovec iov = {e, sizeof *e};
	struct msghdr m = {.iov = &iov, .iovlen = 1};
	for (u32 i = 0; i < nfds; i++) ctl.fd[i] = fds[i];
	if (nfds) m.control = &ctl, m.controllen = (sizeof(struct cmsghdr) + nfds * sizeof(int) + 7) & ~7ul;
	if (sys(__NR_sendmsg, CTL, &m, MSG_NOSIGNAL_) >= 0) return;
	m.control = 0, m.controllen = 0;
	if (sys(__NR_sendmsg, CTL, &m, MSG_NOSIGNAL_) < 0) die();
}

long write_map(long pid, const char *file, const char *text, u32 len) {
	char path[64] = "/proc/", num[24], *t = utoa((u64)pid, num + sizeof num);
	u64 m = slen(t), n = slen(file);
	memcpy(path + 6, t, m);
	memcpy(path + 6 + m, file, n + 1);
	long fd = sys(__NR_openat, AT_FDCWD_, path, (text ? O_WRONLY : O_RDONLY) | O_CLOEXEC, 0);
	if (fd < 0 || !text) return fd; // without text: open it, for the caller
	long r = sys(__NR_write, fd, text, len);
	sys(__NR_close, fd);
	return r < 0 ? r : 0;
}

// mkuserns makes a user namespace with one uid and one gid mapped, for an idmapped mount, and returns a descriptor of it.
long mkuserns(u64 in_uid, u64 out_uid, u64 in_gid, u64 out_gid) {
	int hold[2];
	long fd = sys(__NR_pipe2, hold, O_CLOEXEC);
	if (fd < 0) return fd;
	long pid = sys(__NR_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		sys(__NR_close, hold[1]);
		sys(__NR_read, hold[0], &fd, 1);
		quit(0);
	}
	fd = pid;
	for (int i = 0; i < 2 && fd >= 0; i++) {
		char num[64], *p = utoa(1, num + sizeof num);
		char *e = p + 1;
		*--p = ' ';
		char t[24], *q = utoa(i ? out_gid : out_uid, t + sizeof t);
		u64 n = slen(q);
		memcpy(p -= n, q, n);
		*--p = ' ';
		q = utoa(i ? in_gid : in_uid, t + sizeof t), n = slen(q);
		memcpy(p -= n, q, n);
		fd = write_map(pid, i ? "/gid_map" : "/uid_map", p, (u32)(e - p));
	}
	if (fd >= 0) fd = write_map(pid, "/ns/user", 0, 0);
	sys(__NR_close, hold[0]);
	sys(__NR_close, hold[1]);
	if (pid > 0) sys(__NR_wait4, pid, 0, 0, 0);
	return fd;
}

static void init_ctx(struct ctx *c) {
	memset(c, 0xff, sizeof *c); // every descriptor -1
	c->socket = 0, c->rest_len = 0, c->told = 0;
	for (int i = 0; i < SLOT_REQUEST; i++) c->slot[i] = setup[i];
}

static void close_request(struct ctx *c) {
	for (int i = 0; i < SLOT_REQUEST; i++) setup[i] = c->slot[i];
	for (int i = SLOT_REQUEST; i < SLOTS; i++)
		if (c->slot[i] >= 0) sys(__NR_close, c->slot[i]);
}

// returned collects what the supervisor gets back besides a pidfd.
static u32 returned(struct ctx *c, int *fds, u32 n) {
	if (c->slot[SLOT_LISTEN] >= 0) fds[n++] = c->slot[SLOT_LISTEN];
	if (c->slot[SLOT_SCRATCH] >= 0) fds[n++] = c->slot[SLOT_SCRATCH];
	return n;
}

static void op_run(struct req *q, u8 *plan, struct ctx *c) {
	struct event e = {.type = EV_DONE, .id = q->id};
	int fds[3];
	c->fail = &e.fail;
	if (run(c, plan, q->plan, SECTION_SETUP) < 0) e.type = EV_FAILED;
	send_event(&e, fds, e.type == EV_DONE ? returned(c, fds, 0) : 0);
}

static long maps(struct req *q, long pid, const u8 *text) {
	long r = 0;
	if (q->uidmap) r = write_map(pid, "/uid_map", (const char *)text, q->uidmap);
	if (!r && q->flags & F_DENY_SETGROUPS) r = write_map(pid, "/setgroups", "deny", 4);
	if (!r && q->gidmap) r = write_map(pid, "/gid_map", (const char *)text + q->uidmap, q->gidmap);
	return r;
}

static u32 free_slot(void) {
	for (u32 i = 0; i < high; i++) if (!children[i].pid) return i;
	return high < MAX_CHILDREN ? high++ : MAX_CHILDREN;
}

// keep_name remembers a socket until the sandbox is dead: a mount of it cannot be attached once its name is gone.
static void keep_name(char *to, const char *name) {
	u64 n = name ? slen(name) + 1 : 1;
	memcpy(to, name && n <= sizeof children->socket ? name : "", n <= sizeof children->socket ? n : 1);
}

static void forget_name(u32 i) {
	if (children[i].socket[0]) sys(__NR_unlinkat, AT_FDCWD_, children[i].socket, 0);
	children[i].socket[0] = 0;
}

static void op_spawn(struct req *q, u8 *plan, struct ctx *c, int sigfd) {
	struct event e = {.type = EV_FAILED, .id = q->id};
	int hold[2] = {-1, -1}, fds[3] = {-1};
	u32 i = free_slot();
	c->fail = &e.fail, c->launcher = sys(__NR_getpid);
	long r = i < MAX_CHILDREN ? run(c, plan, q->plan, SECTION_PREPARE) : -EAGAIN;
	if (i < MAX_CHILDREN) keep_name(children[i].socket, c->socket);
	if (r < 0) goto out;
	if ((r = sys(__NR_pipe2, hold, O_CLOEXEC)) < 0) goto out;
	memset((void *)&fails[i], 0, sizeof fails[i]);
	struct clone_args a = {.flags = q->clone_flags | CLONE_PIDFD, .pidfd = (u64)&fds[0], .exit_signal = SIGCHLD};
	if (q->into != NO_SLOT) a.flags |= CLONE_INTO_CGROUP, a.cgroup = (u64)c->slot[q->into % SLOTS];
	r = sys(__NR_clone3, &a, q->into == NO_SLOT ? CLONE_ARGS_SIZE_VER1 : CLONE_ARGS_SIZE_VER2);
	if (r == 0) {
		sys(__NR_close, CTL);
		sys(__NR_close, sigfd);
		sys(__NR_close, hold[1]);
		c->fail = &fails[i];
		c->sync = hold[0];
		c->keep_kill = q->flags & F_KEEP_KILL, c->pidns = q->flags & F_PIDNS;
		actor(c, plan + q->plan, q->before);
	}
	if (r > 0) {
		children[i].pid = (int)r, children[i].id = q->id;
		long m = maps(q, r, plan + q->plan + q->before);
		if (m < 0) { // the child reads EOF from the pipe and ends; its exit is still announced
			e.fail.err = (u16)-m, e.fail.step = SYNC, e.fail.section = SECTION_BEFORE;
			if (!fails[i].err) fails[i].err = e.fail.err, fails[i].step = SYNC, fails[i].section = SECTION_BEFORE; // the child's own story wins
		} else sys(__NR_write, hold[1], "", 1);
		e.type = EV_SPAWNED;
	}
out:
	if (r < 0 && i < MAX_CHILDREN) forget_name(i);
	if (r < 0 && !e.fail.err) e.fail.err = (u16)-r, e.fail.section = SECTION_PREPARE; // step 0: the clone itself
	send_event(&e, fds, e.type == EV_SPAWNED ? returned(c, fds, 1) : 0);
	for (int k = 0; k < 2; k++) if (hold[k] >= 0) sys(__NR_close, hold[k]);
	if (fds[0] >= 0) sys(__NR_close, fds[0]);
}

// known reports whether pid is the init of a live sandbox.
static int known(long pid) {
	for (u32 i = 0; i < high; i++) if (children[i].pid == pid) return 1;
	return 0;
}

static void reap(void) {
	struct rusage_raw ru;
	int st;
	for (long pid; (pid = sys(__NR_wait4, -1, &st, WNOHANG, &ru)) > 0;)
		for (u32 i = 0; i < high; i++)
			if (children[i].pid == pid) {
				struct event e = {.type = EV_EXITED, .id = children[i].id, .status = st,
					.user_us = ru.utime[0] * 1000000 + ru.utime[1], .system_us = ru.stime[0] * 1000000 + ru.stime[1],
					.maxrss_kib = ru.maxrss, .inblock = ru.inblock, .oublock = ru.oublock};
				e.fail.section = fails[i].section, e.fail.step = fails[i].step;
				e.fail.index = fails[i].index, e.fail.err = fails[i].err;
				children[i].pid = 0;
				forget_name(i);
				if (!own_pidns) kill_children(known); // what it left came to us
				send_event(&e, 0, 0);
				break;
			}
}

static void receive(int sigfd) {
	struct { struct cmsghdr h; int fd[MAX_FDS]; } ctl;
	struct req q;
	struct ctx c;
	struct iovec iov[2] = {{&q, sizeof q}, {buf, sizeof buf}};
	struct msghdr m = {.iov = iov, .iovlen = 2, .control = &ctl, .controllen = sizeof ctl};
	long n = sys(__NR_recvmsg, CTL, &m, MSG_CMSG_CLOEXEC_);
	if (n == -EINTR) return;
	u64 body = (u64)q.plan + q.before + q.uidmap + q.gidmap;
	if (n < (long)sizeof q || m.flags & (MSG_TRUNC_ | MSG_CTRUNC_) || (u64)n - sizeof q != body || q.nfds > MAX_FDS) die();
	u64 came = m.controllen < sizeof ctl.h ? 0 : (ctl.h.len - sizeof ctl.h) / sizeof(int);
	if (came != q.nfds) die();
	init_ctx(&c);
	for (u32 i = 0; i < q.nfds; i++) c.slot[SLOT_REQUEST + i] = ctl.fd[i];
	if (q.op == OP_SPAWN) op_spawn(&q, buf, &c, sigfd);
	else if (q.op == OP_RUN) op_run(&q, buf, &c);
	else if (q.op == OP_KILL) {
		for (u32 i = 0; i < high; i++)
			if (children[i].pid && children[i].id == q.id) sys(__NR_kill, children[i].pid, SIGKILL);
	} else if (q.op == OP_REEXEC) { // ids were mapped by newuidmap meanwhile: exec as root of this namespace regains its capabilities
		const char *argv[] = {"sandboxd-launcher", own_pidns ? "p" : "s", 0}, *envp[] = {0};
		sys(__NR_execve, "/proc/self/exe", argv, envp);
		die();
	} else die();
	close_request(&c);
}

// contained is PID 1 of a container that somebody else made: descriptors 3 to 5 are this image, the record of a failed
// step and the first half of the plan, and what follows are those of the request.
static _Noreturn void contained(int keep_kill, int told) {
	struct ctx c;
	memset(&c, 0xff, sizeof c);
	c.socket = 0, c.rest_len = 0, c.keep_kill = keep_kill, c.told = told, c.pidns = 1;
	long len = sys(__NR_lseek, 5, 0, 2 /* SEEK_END */), fail = sys(__NR_mmap, 0, sizeof *c.fail, 3, 1 /* SHARED */, 4, 0);
	long plan = sys(__NR_mmap, 0, len, 1, 2 /* PRIVATE */, 5, 0);
	if (len <= 0 || (plan < 0 && plan > -4096) || (fail < 0 && fail > -4096)) quit(125);
	c.fail = (void *)fail;
	for (int i = 0; i < MAX_FDS; i++) if (sys(__NR_fcntl, 6 + i, 1 /* F_GETFD */) >= 0) c.slot[SLOT_REQUEST + i] = 6 + i;
	actor(&c, (const u8 *)plan, (u32)len);
}

// start is called by _start with the initial stack: argc, argv…; argv[1] is "p" in a pid namespace of its own, "s" without;
// an "n" after it begins a network namespace for the setup plan to join. "c" is a container's init, with "k" after it if
// the init keeps CAP_KILL, or "s" if signals come by the handshake socket.
_Noreturn void start(long *sp) {
	const char **argv = (const char **)(sp + 1);
	u64 all = ~0ul, dfl[4] = {0};
	own_pidns = sp[0] > 1 && argv[1][0] == 'p';
	for (int s = 1; s <= 64; s++) sys(__NR_rt_sigaction, s, dfl, 0, 8); // a caller may have left SIGCHLD or SIGPIPE ignored
	sys(__NR_rt_sigprocmask, 0 /* SIG_BLOCK */, &all, 0, 8);
	sys(__NR_umask, 0);
	if (sp[0] > 1 && argv[1][0] == 'c') contained(argv[1][1] == 'k', argv[1][1] == 's');
	sys(__NR_prctl, PR_SET_NAME, "sandboxd-launch", 0, 0, 0);
	// A belt, for a stopped launcher does not see EOF. Without a pid namespace it must live on to kill what is below it.
	if (own_pidns) sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (!own_pidns) sys(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	sys(__NR_close_range, 4, ~0u, 0);
	for (int i = 0; i < SLOT_REQUEST; i++) setup[i] = -1;
	if (sp[0] > 1 && argv[1][0] && argv[1][1] == 'n') start_netns();
	children = (void *)sys(__NR_mmap, 0, MAX_CHILDREN * sizeof *children, 3, 0x4022 /* PRIVATE|ANON|NORESERVE */, -1, 0);
	sys(__NR_madvise, children, MAX_CHILDREN * sizeof *children, 10 /* MADV_DONTFORK */); // a sandbox has no use for the others
	fails = (void *)sys(__NR_mmap, 0, MAX_CHILDREN * sizeof *fails, 3, 0x4021 /* SHARED|ANON|NORESERVE */, -1, 0);
	int sigfd = (int)sys(__NR_signalfd4, -1, &all, 8, O_CLOEXEC | O_NONBLOCK);
	if ((long)children < 0 || (long)fails < 0 || sigfd < 0) die(); // it could not tell of deaths
	struct pollfd p[2] = {{.fd = CTL, .events = POLLIN}, {.fd = sigfd, .events = POLLIN}};
	for (;;) {
		sys(__NR_ppoll, p, 2, 0, 0, 8);
		if (p[1].revents) {
			struct signalfd_siginfo_raw si;
			while (sys(__NR_read, sigfd, &si, sizeof si) > 0) ;
			reap();
		}
		if (p[0].revents & POLLIN) receive(sigfd);
		else if (p[0].revents) die();
	}
}
