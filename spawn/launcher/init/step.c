// The interpreter: a flat list of steps, each one or a few system calls.
#include "init.h"
#include <linux/fs.h>

struct step { u16 kind; u8 nn, ns; u32 size; u64 n[8]; const char *s[4]; u32 len[4]; };

static int slot(struct ctx *c, u64 i) { return i == SLOT_CWD ? AT_FDCWD_ : i < SLOTS ? c->slot[i] : -1; }

// set_slot puts a descriptor where another one may be, which is closed.
static long set_slot(struct ctx *c, u64 i, long fd) {
	if (fd < 0) return fd;
	long old = i < SLOTS ? c->slot[i] : fd;
	if (i < SLOTS) c->slot[i] = (int)fd;
	if (old >= 0) sys(__NR_close, old);
	return i < SLOTS ? 0 : -EBADF;
}

u64 slen(const char *s) {
	u64 n = 0;
	while (s[n]) n++;
	return n;
}

char *utoa(u64 v, char *end) {
	*--end = 0;
	do *--end = (char)('0' + v % 10); while (v /= 10);
	return end;
}

// resolve opens path below root; the path cannot leave it, whatever symlinks the tree holds. Behind a ".." the kernel
// says EAGAIN when anything at all was renamed or mounted meanwhile, which others can do all the time: tries are counted.
static long resolve(int root, const char *path, u64 flags, u64 extra) {
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | extra};
	long r = -EAGAIN;
	for (int tries = 0; r == -EAGAIN && tries < 1000; tries++) r = sys(__NR_openat2, root, path, &how, sizeof how);
	return r;
}

// parent opens the directory that holds path and points *base at the last component.
static long parent(int root, const char *path, const char **base) {
	static char dir[4096];
	u64 n = slen(path), cut = 0;
	if (n >= sizeof dir) return -ENAMETOOLONG;
	for (u64 i = 0; i < n; i++) if (path[i] == '/') cut = i + 1;
	memcpy(dir, path, cut);
	dir[cut] = 0;
	*base = path + cut;
	return resolve(root, cut ? dir : ".", O_PATH | O_DIRECTORY, 0);
}

static long do_fsmount(struct ctx *c, struct step *s) {
	long fs = sys(__NR_fsopen, s->s[0], FSOPEN_CLOEXEC), r = fs;
	if (fs < 0) return fs;
	const char *p = s->s[1], *end = p + s->len[1];
	while (p < end) {
		const char *key = p, *val = key + slen(key) + 1;
		if (val >= end) { r = -EINVAL; goto out; }
		p = val + slen(val) + 1;
		r = *val ? sys(__NR_fsconfig, fs, FSCONFIG_SET_STRING, key, val, 0) : sys(__NR_fsconfig, fs, FSCONFIG_SET_FLAG, key, 0, 0);
		if (r < 0) goto out;
	}
	if ((r = sys(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0)) < 0) goto out;
	r = set_slot(c, s->n[0], sys(__NR_fsmount, fs, FSMOUNT_CLOEXEC, s->n[1]));
out:
	sys(__NR_close, fs);
	return r;
}

static long do_open_tree(struct ctx *c, struct step *s) {
	u32 flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (s->n[1] & RECURSIVE ? AT_RECURSIVE : 0);
	long fd, at;
	if (s->n[4] == SLOT_CWD) fd = sys(__NR_open_tree, AT_FDCWD_, s->s[0], flags);
	else {
		if ((at = resolve(slot(c, s->n[4]), s->s[0], O_PATH, 0)) < 0) return at;
		fd = sys(__NR_open_tree, at, "", flags | AT_EMPTY_PATH);
		sys(__NR_close, at);
	}
	long r = set_slot(c, s->n[0], fd);
	if (r || !(s->n[2] | s->n[3])) return r;
	struct mount_attr a = {.attr_set = s->n[2], .attr_clr = s->n[3]};
	return sys(__NR_mount_setattr, fd, "", AT_EMPTY_PATH | (s->n[1] & RECURSIVE ? AT_RECURSIVE : 0), &a, sizeof a);
}

static long do_attach(struct ctx *c, struct step *s) {
	long at = resolve(slot(c, s->n[0]), s->s[0], O_PATH, s->n[2]);
	if (at < 0) return at;
	long r = sys(__NR_move_mount, slot(c, s->n[1]), "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	sys(__NR_close, at);
	return r;
}

static long do_setattr(struct ctx *c, struct step *s) {
	struct mount_attr a = {.attr_set = s->n[2], .attr_clr = s->n[3]};
	long at = resolve(slot(c, s->n[0]), s->s[0], O_PATH, 0);
	if (at < 0) return at;
	long r = sys(__NR_mount_setattr, at, "", AT_EMPTY_PATH | (s->n[1] & RECURSIVE ? AT_RECURSIVE : 0), &a, sizeof a);
	sys(__NR_close, at);
	return r;
}

// directory returns 0 if path, which is base in dir, leads to one.
static long directory(int dir, const char *base, int root, const char *path) {
	long fd = sys(__NR_openat, dir, base, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (fd < 0) fd = resolve(root, path, O_PATH | O_DIRECTORY, 0); // perhaps behind a link of the tree's own
	if (fd < 0) return fd;
	sys(__NR_close, fd);
	return 0;
}

// do_make serves the four steps that create one name below a root.
static long do_make(struct ctx *c, struct step *s) {
	const char *base;
	long dir = parent(slot(c, s->n[0]), s->s[s->kind == SYMLINK], &base), r = dir;
	if (dir < 0) return dir;
	switch (s->kind) {
	case MKDIR:
		r = sys(__NR_mkdirat, dir, base, s->n[1]);
		if (r == -EEXIST && s->n[4] & EXIST) r = directory(dir, base, slot(c, s->n[0]), s->s[0]);
		else if (r == 0 && s->n[2] != ~0ul) r = sys(__NR_fchownat, dir, base, s->n[2], s->n[3], AT_SYMLINK_NOFOLLOW);
		break;
	case SYMLINK: r = sys(__NR_symlinkat, s->s[0], dir, base); break;
	case MKNOD: r = sys(__NR_mknodat, dir, base, s->n[1], s->n[2]); break;
	case WRITE_FILE:
		r = sys(__NR_openat, dir, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, s->n[1]);
		if (r == -EEXIST && s->n[2] & EXIST) { r = directory(dir, base, slot(c, s->n[0]), s->s[0]) ? 0 : -EISDIR; break; }
		if (r < 0) break;
		long fd = r, w = s->len[1] ? sys(__NR_write, fd, s->s[1], s->len[1]) : 0;
		r = w < 0 ? w : w != s->len[1] ? -ENOSPC : 0;
		sys(__NR_close, fd);
	}
	sys(__NR_close, dir);
	return r;
}

static long do_idmap(struct ctx *c, struct step *s) {
	long ns = mkuserns(s->n[1], s->n[2], s->n[3], s->n[4]);
	if (ns < 0) return ns;
	struct mount_attr a = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = ns};
	long r = sys(__NR_mount_setattr, slot(c, s->n[0]), "", AT_EMPTY_PATH, &a, sizeof a);
	sys(__NR_close, ns);
	return r;
}

static long do_pivot(struct ctx *c, struct step *s) {
	long r = sys(__NR_fchdir, slot(c, s->n[0]));
	// New root over old root: the old one is then the topmost mount on ".", and detaching it needs no directory to park it in.
	if (!r) r = sys(__NR_pivot_root, ".", ".");
	if (!r) r = sys(__NR_umount2, ".", 2 /* MNT_DETACH */);
	return r ? r : sys(__NR_chdir, "/");
}

// A magic link of /proc would lead out of the root, by a directory that is open here and nowhere below it.
static long do_chdir(struct step *s) {
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
	long fd = sys(__NR_openat2, AT_FDCWD, s->s[0], &how, sizeof how), r = fd < 0 ? fd : sys(__NR_fchdir, fd);
	sys(__NR_close, fd);
	return fd == -ENOSYS ? sys(__NR_chdir, s->s[0]) : r; // before Linux 5.6, on which no root is ours
}

static long do_listen(struct ctx *c, struct step *s) {
	struct sockaddr_un a = {.sun_family = AF_UNIX_};
	if (s->len[0] >= sizeof a.sun_path) return -ENAMETOOLONG;
	memcpy(a.sun_path, s->s[0], s->len[0]);
	long fd = sys(__NR_socket, AF_UNIX_, SOCK_STREAM_ | SOCK_CLOEXEC_ | O_NONBLOCK, 0), r = fd; // the supervisor polls it
	if (fd < 0) return fd;
	// The launcher's umask is 0: the socket is 0777, for a peer whose id is a stranger here; its directory and the handshake guard it.
	if ((r = sys(__NR_bind, fd, &a, sizeof a)) || (r = sys(__NR_listen, fd, 8))) {
		sys(__NR_close, fd);
		return r;
	}
	set_slot(c, s->n[0], fd);
	if (s->n[1] >= SLOTS) return 0;
	c->socket = s->s[0];
	return set_slot(c, s->n[1], sys(__NR_open_tree, AT_FDCWD_, s->s[0], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
}

static long do_loopback(void) {
	struct { char name[16]; u16 flags; u8 pad[22]; } ifr = {.name = "lo", .flags = 1 /* IFF_UP */};
	long fd = sys(__NR_socket, AF_INET_, SOCK_DGRAM_ | SOCK_CLOEXEC_, 0);
	if (fd < 0) return fd;
	long r = sys(__NR_ioctl, fd, 0x8914 /* SIOCSIFFLAGS */, &ifr);
	sys(__NR_close, fd);
	return r;
}

// A network namespace takes as long to make as everything else together. A
// helper that shares this process's memory and descriptors makes it meanwhile.
// The kernel sets at_work to 0 when it has left that memory, done or killed (CLONE_CHILD_CLEARTID): its stack is free again.
static struct { u32 at_work; int fd; long err; } net;

static void make_netns(void *unused) {
	(void)unused;
	long r = sys(__NR_unshare, CLONE_NEWNET);
	if (!r) r = do_loopback();
	if (!r) r = sys(__NR_openat, AT_FDCWD_, "/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC, 0);
	net.fd = (int)r, net.err = r < 0 ? r : 0;
	quit(0); // a process of its own, reaped like any child
}

long start_netns(void) {
	static u8 stack[8192] __attribute__((aligned(16)));
	net.at_work = 1, net.err = -ECHILD;
	long r = clone_fn(CLONE_VM | CLONE_FILES | CLONE_CHILD_CLEARTID | SIGCHLD, stack + sizeof stack, make_netns, 0, &net.at_work);
	return r < 0 ? r : 0;
}

static long join_netns(void) {
	while (__atomic_load_n(&net.at_work, __ATOMIC_ACQUIRE)) sys(__NR_futex, &net.at_work, 0 /* FUTEX_WAIT */, 1, 0, 0, 0);
	if (net.err) return net.err;
	long r = sys(__NR_setns, net.fd, CLONE_NEWNET);
	sys(__NR_close, net.fd);
	return r;
}

static long write_path(const char *path, const char *s, u64 len) {
	long fd = sys(__NR_openat, AT_FDCWD_, path, O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0) return fd;
	long r = sys(__NR_write, fd, s, len);
	sys(__NR_close, fd);
	return r < 0 ? r : 0;
}

static long do_oom(struct step *s) {
	char b[24], *e = b + sizeof b, *p = utoa(s->n[0] >= 1000 ? s->n[0] - 1000 : 1000 - s->n[0], e);
	if (s->n[0] < 1000) *--p = '-';
	sys(__NR_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0); // or the file is root's; nothing hostile runs yet
	long r = write_path("/proc/self/oom_score_adj", p, (u64)(e - 1 - p));
	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	return r;
}

static long do_setid(struct step *s) {
	long r = s->n[2] ? 0 : sys(__NR_setgroups, 0, 0);
	if (!r) r = sys(__NR_setresgid, s->n[1], s->n[1], s->n[1]);
	return r ? r : sys(__NR_setresuid, s->n[0], s->n[0], s->n[0]);
}

static long do_tty(struct ctx *c, struct step *s) {
	struct { u16 row, col, x, y; } ws = {(u16)s->n[0], (u16)s->n[1], 0, 0};
	int unlock = 0;
	long m = sys(__NR_openat, AT_FDCWD_, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0), t = m;
	if (m < 0 || (t = sys(__NR_ioctl, m, 0x40045431 /* TIOCSPTLCK */, &unlock)) < 0) return t;
	if ((t = sys(__NR_ioctl, m, 0x5441 /* TIOCGPTPEER */, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) return t;
	sys(__NR_ioctl, m, 0x5414 /* TIOCSWINSZ */, &ws);
	long r = sys(__NR_fchown, t, s->n[3], s->n[4]);
	c->master = (int)m;
	return r ? r : set_slot(c, s->n[2], t);
}

static long do_stdio(struct ctx *c, struct step *s) {
	for (int i = 0; i < 3; i++) {
		long r = sys(__NR_dup3, slot(c, s->n[i]), i, 0);
		if (r < 0) return r;
	}
	return 0;
}

static long do_drop_caps(void) {
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}};
	sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return sys(__NR_capset, &h, d);
}

static long do_drop_bounding(void) {
	for (long i = 0; i < 64; i++) {
		long r = sys(__NR_prctl, PR_CAPBSET_DROP, i, 0, 0, 0);
		if (r == -EINVAL) return 0; // past the last capability of this kernel
		if (r) return r;
	}
	return 0;
}

static long do_landlock(struct ctx *c, struct step *s) {
	if (s->kind == LANDLOCK_CREATE) { // n: fs, net, scoped, size of the attribute that this kernel knows
		long fd = sys(__NR_landlock_create_ruleset, s->n, s->n[3], 0);
		c->ruleset = (int)fd;
		return fd < 0 ? fd : 0;
	}
	if (s->kind == LANDLOCK_RESTRICT) return sys(__NR_landlock_restrict_self, c->ruleset, 0);
	struct { u64 access; int fd; } __attribute__((packed)) rule = {s->n[0], slot(c, s->n[1])};
	if (s->kind == LANDLOCK_FILE) {
		long r = sys(__NR_landlock_add_rule, c->ruleset, 1 /* LANDLOCK_RULE_PATH_BENEATH */, &rule, 0);
		return r == -EBADFD ? 0 : r; // a memfd lies below no path, and Landlock does not hold it
	}
	long fd = sys(__NR_openat, AT_FDCWD_, s->s[0], O_PATH | O_CLOEXEC, 0);
	if (fd == -ENOENT && s->n[1] & OPTIONAL) return 0;
	if (fd < 0) return fd;
	rule.fd = (int)fd;
	long r = sys(__NR_landlock_add_rule, c->ruleset, 1 /* LANDLOCK_RULE_PATH_BENEATH */, &rule, 0);
	sys(__NR_close, fd);
	return r;
}

static long do_seccomp(struct ctx *c, struct step *s) {
	if (s->len[0] % 8 || s->len[0] / 8 > 0xffff) return -EINVAL;
	struct { u16 len; const void *filter; } prog = {(u16)(s->len[0] / 8), s->s[0]};
	long r = sys(__NR_seccomp, 1 /* SECCOMP_SET_MODE_FILTER */, s->n[0], &prog);
	if (r > 0) c->notify = (int)r;
	return r < 0 ? r : 0;
}

static long do_confined(struct ctx *c) {
	u64 pid = (u64)sys(__NR_getpid);
	u8 b[7] = {0x92, 0x05, 0xce, (u8)(pid >> 24), (u8)(pid >> 16), (u8)(pid >> 8), (u8)pid}, go[6];
	long r = send_frame(c->conn, b, sizeof b, c->notify);
	if (r < 0) return r;
	if ((r = read_full(c->conn, go, sizeof go)) < 0) return r;
	return go[0] == 2 && go[4] == 0x91 && go[5] == 0x06 ? 0 : -EPROTO;
}

// unpack points v at the n strings of a NUL-separated list of len bytes, which must be exactly that many.
static long unpack(const char *p, u32 len, u64 n, const char **v) {
	const char *end = p + len;
	for (u64 i = 0; i < n; i++, p += slen(p) + 1) {
		if (p >= end) return -EBADMSG;
		v[i] = p;
	}
	v[n] = 0;
	return p == end ? 0 : -EBADMSG;
}

// die_with_init makes the kernel kill the program with its init where no pid namespace does. A change of id undoes it.
static void die_with_init(struct ctx *c) {
	if (c->pidns || sys(__NR_getpid) == c->self) return;
	sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (sys(__NR_getppid) != c->self) quit(1); // it was dead already
}

static long do_exec(struct ctx *c, struct step *s) {
	static const char *small[256];
	static char path[4096];
	const char **argv = small;
	u64 need = s->n[0] + s->n[1] + 2;
	int by_fd = s->kind == EXEC_FD, args = by_fd ? 0 : 1;
	if (s->n[0] > 1 << 20 || s->n[1] > 1 << 20) return -E2BIG;
	if (need > 256) {
		long m = sys(__NR_mmap, 0, need * 8, 3, 0x22, -1, 0);
		if (m < 0 && m > -4096) return m;
		argv = (const char **)m;
	}
	const char **envp = argv + s->n[0] + 1;
	die_with_init(c);
	if (unpack(s->s[args], s->len[args], s->n[0], argv) || unpack(s->s[args + 1], s->len[args + 1], s->n[1], envp)) return -EBADMSG;
	if (by_fd) return sys(__NR_execveat, slot(c, s->n[2]), "", argv, envp, AT_EMPTY_PATH);
	const char *name = s->s[0], *dir = s->s[3];
	u64 n = slen(name);
	if (!s->len[3]) return sys(__NR_execve, name, argv, envp);
	long worst = -ENOENT;
	for (;;) { // execvp(3): the first directory that has it wins; a refusal is remembered
		u64 d = 0;
		while (dir[d] && dir[d] != ':') d++;
		if (d && d + n + 2 < sizeof path) {
			memcpy(path, dir, d);
			path[d] = '/';
			memcpy(path + d + 1, name, n + 1);
			long r = sys(__NR_execve, path, argv, envp);
			if (r != -ENOENT && r != -ENOTDIR) worst = r;
			if (r != -ENOENT && r != -ENOTDIR && r != -EACCES) return r;
		}
		if (!dir[d]) return worst;
		dir += d + 1;
	}
}

struct forked { struct ctx *c; const u8 *p, *end; u16 index, section; };

static long run_from(struct ctx *c, const u8 *p, const u8 *end, u16 index, u16 section);

// program is the program's own process: it runs the rest of the steps and never returns.
static void program(void *arg) {
	struct forked *f = arg;
	u64 none = 0;
	sys(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, 8);
	die_with_init(f->c);
	if (!run_from(f->c, f->p, f->end, f->index, f->section) && f->section == SECTION_BEFORE) run(f->c, f->c->rest, f->c->rest_len, SECTION_AFTER);
	quit(1);
}

static long do_fork(struct ctx *c, struct step *s, const u8 *p, const u8 *end, u16 index, u16 section) {
	static u8 stack[16384] __attribute__((aligned(16)));
	struct forked f = {c, p, end, index, section};
	// vfork: the parent sleeps until exec or exit, so whether exec worked is a shared variable. A time
	// namespace needs a memory image of its own (n[0]).
	c->program = clone_fn(CLONE_VFORK | SIGCHLD | (s->n[0] ? 0 : CLONE_VM), stack + sizeof stack, program, &f, 0);
	return c->program < 0 ? c->program : c->fail->err ? -(long)c->fail->err : 0;
}

static long step(struct ctx *c, struct step *s) {
	u64 *n = s->n;
	long r;
	switch (s->kind) {
	case MOUNT_PRIVATE: return sys(__NR_mount, 0, "/", 0, (1 << 14) | (1 << 18) /* MS_REC|MS_PRIVATE */, 0);
	case FSMOUNT: return do_fsmount(c, s);
	case OPEN_TREE: return do_open_tree(c, s);
	case ATTACH: return do_attach(c, s);
	case SETATTR: return do_setattr(c, s);
	case MKDIR: case SYMLINK: case MKNOD: case WRITE_FILE: return do_make(c, s);
	case IDMAP: return do_idmap(c, s);
	case PIVOT: return do_pivot(c, s);
	case LISTEN: return do_listen(c, s);
	case JOIN_CGROUP: r = sys(__NR_write, slot(c, n[0]), "0", 1); return r < 0 ? r : 0;
	case SYNC: { u8 b; r = sys(__NR_read, c->sync, &b, 1); return r == 1 ? 0 : r < 0 ? r : -EPIPE; }
	case SETID: return do_setid(s);
	case UNSHARE: return sys(__NR_unshare, n[0]);
	case SETNS: return sys(__NR_setns, slot(c, n[0]), n[1]);
	case OPEN_FILE: return set_slot(c, n[0], sys(__NR_openat, AT_FDCWD_, s->s[0], n[1] | O_CLOEXEC, 0));
	case NETNS_START: return start_netns();
	case NETNS_JOIN: return join_netns();
	case HOSTNAME: return sys(__NR_sethostname, s->s[0], s->len[0]);
	case LOOPBACK: return do_loopback();
	case UNDUMPABLE: return sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	case SUBREAPER: return sys(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	case KEYRING: r = sys(__NR_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, 0); return r < 0 && r != -ENOSYS ? r : 0;
	case RLIMIT: return sys(__NR_prlimit64, 0, n[0], n + 1, 0);
	case UMASK: sys(__NR_umask, n[0]); return 0;
	case AFFINITY: return sys(__NR_sched_setaffinity, 0, s->len[0], s->s[0]);
	case OOM_SCORE: return do_oom(s);
	case TIME_OFFSETS: return write_path("/proc/self/timens_offsets", s->s[0], s->len[0]);
	case CONNECT: return s->len[2] != 16 ? -EBADMSG : connect_peer(c, s->s[0], n[0], n[1], s->s[1], s->len[1], s->s[2]);
	case WELCOME: return receive_welcome(c);
	case TTY: return do_tty(c, s);
	case STDIO: return do_stdio(c, s);
	case SETSID: r = sys(__NR_setsid); return r < 0 ? r : n[0] ? sys(__NR_ioctl, 0, 0x540E /* TIOCSCTTY */, 0) : 0;
	case CHDIR: return do_chdir(s);
	case SECUREBITS: return sys(__NR_prctl, PR_SET_SECUREBITS, n[0], 0, 0, 0);
	case DROP_BOUNDING: return do_drop_bounding();
	case DROP_CAPS: return do_drop_caps();
	case NO_NEW_PRIVS: return sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	case LANDLOCK_CREATE: case LANDLOCK_PATH: case LANDLOCK_FILE: case LANDLOCK_RESTRICT: return do_landlock(c, s);
	case SECCOMP: return do_seccomp(c, s);
	case CLOSE_FROM: return sys(__NR_close_range, n[0], ~0u, CLOSE_RANGE_CLOEXEC);
	case CONFINED: return do_confined(c);
	case EXEC: case EXEC_FD: return do_exec(c, s);
	case KEEP: r = sys(__NR_dup3, slot(c, n[0]), n[1], 0); return r < 0 ? r : 0;
	}
	return -ENOSYS;
}

// How many numbers and strings each kind carries; anything else is refused.
static const u8 shape[KIND_END] = {
#define SHAPE(nums, strs) ((nums) << 4 | (strs))
	[MOUNT_PRIVATE] = SHAPE(0, 0), [FSMOUNT] = SHAPE(2, 2), [OPEN_TREE] = SHAPE(5, 1), [ATTACH] = SHAPE(3, 1),
	[SETATTR] = SHAPE(4, 1), [MKDIR] = SHAPE(5, 1), [SYMLINK] = SHAPE(1, 2), [MKNOD] = SHAPE(3, 1), [WRITE_FILE] = SHAPE(3, 2),
	[IDMAP] = SHAPE(5, 0), [PIVOT] = SHAPE(1, 0), [LISTEN] = SHAPE(2, 1), [JOIN_CGROUP] = SHAPE(1, 0), [SYNC] = SHAPE(0, 0),
	[SETID] = SHAPE(3, 0), [UNSHARE] = SHAPE(1, 0), [SETNS] = SHAPE(2, 0), [OPEN_FILE] = SHAPE(2, 1), [NETNS_START] = SHAPE(0, 0), [NETNS_JOIN] = SHAPE(0, 0), [HOSTNAME] = SHAPE(0, 1),
	[LOOPBACK] = SHAPE(0, 0), [UNDUMPABLE] = SHAPE(0, 0), [SUBREAPER] = SHAPE(0, 0), [KEYRING] = SHAPE(0, 0), [RLIMIT] = SHAPE(3, 0),
	[UMASK] = SHAPE(1, 0), [AFFINITY] = SHAPE(0, 1), [OOM_SCORE] = SHAPE(1, 0), [TIME_OFFSETS] = SHAPE(0, 1), [CONNECT] = SHAPE(2, 3), [WELCOME] = SHAPE(0, 0),
	[TTY] = SHAPE(5, 0), [STDIO] = SHAPE(3, 0), [FORK] = SHAPE(1, 0), [SETSID] = SHAPE(1, 0), [CHDIR] = SHAPE(0, 1),
	[SECUREBITS] = SHAPE(1, 0), [DROP_BOUNDING] = SHAPE(0, 0), [DROP_CAPS] = SHAPE(0, 0), [NO_NEW_PRIVS] = SHAPE(0, 0),
	[LANDLOCK_CREATE] = SHAPE(4, 0), [LANDLOCK_PATH] = SHAPE(2, 1), [LANDLOCK_RESTRICT] = SHAPE(0, 0), [SECCOMP] = SHAPE(1, 1),
	[CLOSE_FROM] = SHAPE(1, 0), [CONFINED] = SHAPE(0, 0), [EXEC] = SHAPE(2, 4), [LANDLOCK_FILE] = SHAPE(2, 0), [EXEC_FD] = SHAPE(3, 2), [KEEP] = SHAPE(2, 0),
};

// parse reads the step at p. Every length is checked against the section and every string must end in NUL.
static long parse(const u8 *p, const u8 *end, struct step *s) {
	if (end - p < 8) return -EBADMSG;
	memcpy(&s->kind, p, 2);
	s->nn = p[2], s->ns = p[3];
	memcpy(&s->size, p + 4, 4);
	if (s->size < 8 || s->size % 8 || s->size > end - p) return -EBADMSG;
	if (s->kind == 0 || s->kind >= KIND_END) return -ENOSYS;
	if (s->nn != shape[s->kind] >> 4 || s->ns != (shape[s->kind] & 15)) return -EBADMSG;
	end = p + s->size, p += 8;
	if (end - p < s->nn * 8) return -EBADMSG;
	memcpy(s->n, p, s->nn * 8ul);
	p += s->nn * 8;
	for (int i = 0; i < s->ns; i++) {
		if (end - p < 5) return -EBADMSG;
		memcpy(&s->len[i], p, 4);
		p += 4;
		if (s->len[i] >= end - p || p[s->len[i]]) return -EBADMSG;
		s->s[i] = (const char *)p;
		p += s->len[i] + 1;
	}
	return 0;
}

static long run_from(struct ctx *c, const u8 *p, const u8 *end, u16 index, u16 section) {
	struct step s;
	for (; p < end; index++) {
		s.kind = 0;
		long r = parse(p, end, &s);
		if (!r) {
			p += s.size;
			r = s.kind == FORK ? do_fork(c, &s, p, end, (u16)(index + 1), section) : step(c, &s);
			if (s.kind == FORK && !r) return 0; // the rest is the program's
		}
		if (r < 0) {
			if (!c->fail->err) { // a step after FORK has already told its own story
				c->fail->section = section, c->fail->step = s.kind, c->fail->index = index;
				c->fail->err = (u16)-r;
			}
			return r;
		}
	}
	return 0;
}

long run(struct ctx *c, const u8 *plan, u32 len, u16 section) { return run_from(c, plan, plan + len, 0, section); }
