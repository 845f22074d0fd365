//go:build ignore

// bare: the system calls of one cold spawn in a straight line, as the floor
// that everything else is compared with. It shares no code with the product.
//
//	gcc -O2 -static -o bare bare.c && mkdir /tmp/b
//	./bare -dir /tmp/b -program ./first -memory /sys/fs/cgroup/memory -pids … -cpu … -rounds 100
//
// Each spawn prints "ready total" in nanoseconds: from before the first system
// call to the first byte of the program, and to all of it gone. Without -rounds
// or -live it obeys lines on stdin: "s" one spawn, "l N" reach N live, "k" kill
// them. EOF, SIGINT, SIGTERM and SIGHUP clean up and end it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// <sys/mount.h> and <linux/mount.h> cannot be included together.
#define MNT_DETACH 2
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
int unshare(int);

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

enum { MEMORY, PIDS, CPU, UNIFIED, GROUPS };
enum { POOL = 8, MAX_LIVE = 32768, BASE_ID = 100000 };
static const char *const limit[2][3][2] = {
	{{"memory.limit_in_bytes", "67108864"}, {"pids.max", "32"}, {"cpu.cfs_quota_us", "100000"}},
	{{"memory.max", "67108864"}, {"pids.max", "32"}, {"cpu.max", "100000 100000"}},
};

struct leaf { char name[64]; int fd[GROUPS]; };
struct actor { int pid, pidfd; struct leaf leaf; };

static int group[GROUPS] = {-1, -1, -1, -1}; // the folders that leaves are made in
static struct leaf pool[POOL];
static struct actor live[MAX_LIVE];
static int nlive, serial, template_root = -1, with_template, pooled;
static const char *dir, *program;
static sigset_t none;
static volatile sig_atomic_t stopped;
static struct sock_filter filter[128];
static unsigned short filter_len;

static void on_signal(int s) { stopped = s; }

static long long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

// --- cgroups

static int leaf_make(struct leaf *l) {
	snprintf(l->name, sizeof l->name, "%s.%d", strrchr(dir, '/') + 1, serial++); // the directory is ours alone, so the name is
	int v2only = group[MEMORY] < 0;
	char path[128];
	memset(l->fd, -1, sizeof l->fd);
	for (int i = 0; i < GROUPS; i++) {
		if (group[i] < 0) continue;
		if (mkdirat(group[i], l->name, 0755)) return -1;
		for (int k = 0; k < 3; k++) {
			if (i == UNIFIED ? !v2only : k != i) continue;
			snprintf(path, sizeof path, "%s/%s", l->name, limit[v2only][k][0]);
			int fd = openat(group[i], path, O_WRONLY | O_CLOEXEC);
			const char *v = limit[v2only][k][1];
			if (fd < 0 || write(fd, v, strlen(v)) < 0) return -1;
			close(fd);
		}
		if (i == UNIFIED) strcpy(path, l->name);
		else snprintf(path, sizeof path, "%s/tasks", l->name);
		l->fd[i] = openat(group[i], path, (i == UNIFIED ? O_PATH | O_DIRECTORY : O_WRONLY) | O_CLOEXEC);
		if (l->fd[i] < 0) return -1;
	}
	return 0;
}

static void leaf_close(struct leaf *l) {
	for (int i = 0; i < GROUPS; i++) if (l->fd[i] >= 0) close(l->fd[i]), l->fd[i] = -1;
}

static int leaf_remove(struct leaf *l) {
	int bad = 0;
	for (int i = 0; i < GROUPS; i++)
		for (int tries = 0; group[i] >= 0 && unlinkat(group[i], l->name, AT_REMOVEDIR); tries++) {
			if (errno == ENOENT) break;
			if (errno != EBUSY || tries == 1000) { bad = -1; break; }
			usleep(500);
		}
	return bad;
}

// --- the end

static int reap(struct actor *a) {
	if (a->pid > 0) {
		syscall(SYS_pidfd_send_signal, a->pidfd, SIGKILL, 0, 0);
		while (waitpid(a->pid, 0, 0) < 0 && errno == EINTR) ;
		close(a->pidfd);
		a->pid = 0;
	}
	if (pooled || !a->leaf.name[0]) return 0;
	int r = leaf_remove(&a->leaf);
	a->leaf.name[0] = 0;
	return r;
}

static int reap_all(void) {
	int bad = 0;
	for (int i = 0; i < nlive; i++) if (live[i].pid > 0) syscall(SYS_pidfd_send_signal, live[i].pidfd, SIGKILL, 0, 0);
	while (nlive) bad |= reap(&live[--nlive]);
	return bad;
}

static void finish(int code) {
	if (reap_all()) code = 1, perror("bare: remove a cgroup");
	for (int i = 0; pooled && i < POOL; i++) if (pool[i].name[0]) leaf_remove(&pool[i]);
	exit(code);
}

static void fail(const char *what) {
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	finish(1);
}

// --- the child

#define DO(call) do { if ((long)(call) < 0) { dprintf(2, "bare: child: %s: %s\n", #call, strerror(errno)); _exit(1); } } while (0)

static void confine_files(void) {
	static const char *const paths[5] = {"/usr", "/bin", "/dev", "/proc", "/tmp"};
	const __u64 read = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	struct landlock_ruleset_attr attr = {.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
	int set;
	DO(set = syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0));
	for (int i = 0; i < 5; i++) {
		struct landlock_path_beneath_attr rule = {.allowed_access = i < 4 ? read : attr.handled_access_fs};
		DO(rule.parent_fd = open(paths[i], O_PATH | O_CLOEXEC));
		DO(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0));
		close(rule.parent_fd);
	}
	DO(syscall(SYS_landlock_restrict_self, set, 0));
	close(set);
}

static void child(struct leaf *l, int hold, int out, int tree) {
	static const struct rlimit files = {1024, 1024}, zero = {0, 0}, locked = {65536, 65536};
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {{0}};
	struct sock_fprog prog = {filter_len, filter};
	char c;

	if (read(hold, &c, 1) != 1) _exit(1); // until the id maps are written
	for (int i = 0; i < UNIFIED; i++) if (l->fd[i] >= 0) DO(write(l->fd[i], "0", 1));
	DO(setresgid(0, 0, 0));
	DO(setgroups(0, 0));
	DO(setresuid(0, 0, 0));
	DO(unshare(CLONE_NEWCGROUP));
	if (tree >= 0) {
		DO(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
		DO(syscall(SYS_move_mount, tree, "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH));
		DO(chdir(dir));
	}
	DO(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0));
	if (tree >= 0) {
		DO(syscall(SYS_pivot_root, ".", "."));
		DO(umount2(".", MNT_DETACH));
		DO(chdir("/"));
	}
	DO(sethostname("bare", 4));
	if (!pooled) {
		struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
		int s;
		DO(s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
		DO(ioctl(s, SIOCSIFFLAGS, &lo));
		close(s);
	}
	DO(dup2(out, 1));
	DO(prctl(PR_SET_SECUREBITS, 0xef)); // root, fixups, keep and ambient off, all locked
	DO(setresgid(1, 1, 1));
	DO(setresuid(1, 1, 1));
	DO(syscall(SYS_capset, &head, caps));
	DO(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	confine_files();
	DO(setrlimit(RLIMIT_NOFILE, &files));
	DO(setrlimit(RLIMIT_CORE, &zero));
	DO(setrlimit(RLIMIT_MEMLOCK, &locked));
	DO(syscall(SYS_close_range, 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */));
	DO(sigprocmask(SIG_SETMASK, &none, 0));
	DO(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog));
	execve("/bin/first", (char *[]){"first", "hold", 0}, (char *[]){0});
	DO(-1);
}

// --- the parent

static int write_map(int pid, const char *file) {
	static const char text[] = "0 100000 2\n";
	char path[48];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, sizeof text - 1) < 0) return -1;
	return close(fd);
}

// spawn leaves the actor in live[nlive] and returns when its first byte came.
static void spawn(void) {
	struct actor *a = &live[nlive];
	int hold[2], out[2], tree = -1;
	char c;
	*a = (struct actor){.pid = 0};
	if (pooled) a->leaf = pool[serial++ % POOL];
	else if (leaf_make(&a->leaf)) nlive++, fail("make cgroups");
	nlive++;
	if (!with_template) {
		tree = syscall(SYS_open_tree, template_root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
		if (tree < 0) fail("open_tree");
	}
	if (pipe2(hold, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) fail("pipe2");
	struct clone_args args = {.pidfd = (__u64)&a->pidfd, .exit_signal = SIGCHLD, .flags = CLONE_PIDFD | CLONE_NEWUSER |
		CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | (pooled ? 0 : CLONE_NEWNET)};
	if (a->leaf.fd[UNIFIED] >= 0) args.flags |= CLONE_INTO_CGROUP, args.cgroup = a->leaf.fd[UNIFIED];
	a->pid = syscall(SYS_clone3, &args, sizeof args);
	if (a->pid < 0) fail("clone3");
	if (!a->pid) close(hold[1]), child(&a->leaf, hold[0], out[1], tree);
	close(hold[0]), close(out[1]);
	if (write_map(a->pid, "uid_map") || write_map(a->pid, "gid_map")) fail("write the id maps");
	if (write(hold[1], "", 1) != 1) fail("wake the child");
	struct pollfd p = {.fd = out[0], .events = POLLIN};
	int n = ppoll(&p, 1, &(struct timespec){10, 0}, &none);
	if (stopped) finish(128 + stopped);
	if (n == 0) errno = ETIMEDOUT;
	else if (n > 0 && read(out[0], &c, 1) == 0) errno = ECHILD; // the child has said why
	else if (n > 0) goto ready;
	fail("wait for the first byte");
ready:
	close(hold[1]), close(out[0]);
	if (tree >= 0) close(tree);
	if (!pooled) leaf_close(&a->leaf);
}

static void one(void) {
	long long t0 = now();
	spawn();
	long long t1 = now();
	if (reap(&live[--nlive])) fail("remove a cgroup");
	printf("%lld %lld\n", t1 - t0, now() - t0);
	fflush(stdout);
}

static void reach(int n) {
	long long t0 = now();
	for (int i = 0; i < n && nlive < MAX_LIVE - 1; i++) spawn();
	printf("%lld\n", now() - t0);
	fflush(stdout);
}

static void kill_all(void) {
	long long t0 = now();
	if (reap_all()) fail("remove a cgroup");
	printf("%lld\n", now() - t0);
	fflush(stdout);
}

// --- once, before everything

static const int denied[] = {
	SYS_mount, SYS_umount2, SYS_pivot_root, SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsconfig, SYS_fsmount,
	SYS_setns, SYS_unshare, SYS_clone3, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_bpf, SYS_perf_event_open,
	SYS_keyctl, SYS_add_key, SYS_request_key, SYS_userfaultfd, SYS_io_uring_setup, SYS_init_module, SYS_finit_module,
	SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_swapon, SYS_swapoff, SYS_acct, SYS_quotactl, SYS_settimeofday, SYS_clock_settime,
};
enum { DENIED = sizeof denied / sizeof *denied, ALLOW = 4 + 2 * DENIED - 1, DENY }; // DENIED compares, one split fewer

static int ascending(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

// search emits a binary search for nr[0..n), as the kernel runs the filter once per call number at load.
static void search(const int *nr, int n) {
	unsigned short at = filter_len++;
	if (n == 1) {
		filter[at] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr[0], DENY - at - 1, ALLOW - at - 1);
		return;
	}
	search(nr, n / 2);
	filter[at] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, nr[n / 2], filter_len - at - 1, 0);
	search(nr + n / 2, n - n / 2);
}

static void make_filter(void) {
	static int sorted[DENIED];
	memcpy(sorted, denied, sizeof denied);
	qsort(sorted, DENIED, sizeof *sorted, ascending);
	filter[filter_len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	filter[filter_len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	filter[filter_len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	filter[filter_len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	search(sorted, DENIED);
	filter[filter_len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	filter[filter_len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
}

static int copy(const char *from, const char *to) {
	char buf[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	ssize_t n = -1;
	if (in >= 0 && out >= 0) while ((n = read(in, buf, sizeof buf)) > 0 && write(out, buf, n) == n) ;
	return close(in) | close(out) | (n != 0);
}

// make_template builds the root in a mount namespace of our own, so the host never sees it.
static void make_template(void) {
	static const char *const dirs[] = {"usr", "bin", "dev", "proc", "tmp"};
	static const struct { const char *name; int minor; } nodes[] = {{"dev/null", 3}, {"dev/zero", 5}, {"dev/full", 7}, {"dev/random", 8}, {"dev/urandom", 9}};
	umask(0);
	if (unshare(CLONE_NEWNS | (pooled ? CLONE_NEWNET : 0))) fail("unshare");
	if (mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)) fail("make mounts private");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)) fail("mount /proc of this pid namespace");
	if (mount("bare", dir, "tmpfs", MS_NOSUID, "mode=755")) fail("mount the template");
	char path[4096];
	for (unsigned i = 0; i < sizeof dirs / sizeof *dirs; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, dirs[i]);
		if (mkdir(path, 0755)) fail("make the template");
	}
	for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, nodes[i].name);
		if (mknod(path, S_IFCHR | 0666, makedev(1, nodes[i].minor))) fail("make device nodes");
	}
	snprintf(path, sizeof path, "%s/bin/first", dir);
	if (copy(program, path)) fail("copy the program");
	snprintf(path, sizeof path, "%s/usr", dir);
	if (mount("/usr", path, 0, MS_BIND, 0)) fail("bind /usr");
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
	if (syscall(SYS_mount_setattr, AT_FDCWD, dir, AT_RECURSIVE, &ro, sizeof ro)) fail("make the template read-only");
	if (!with_template) {
		if ((template_root = open(dir, O_PATH | O_CLOEXEC)) < 0) fail("open the template");
		return;
	}
	snprintf(path, sizeof path, "%s/proc", dir);
	if (mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)) fail("mount /proc of the template");
	if (chdir(dir) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) fail("enter the template");
}

static void serve(void) {
	for (char line[64];;) {
		struct pollfd p = {.fd = 0, .events = POLLIN};
		int n = ppoll(&p, 1, 0, &none);
		if (stopped) finish(128 + stopped);
		if (n < 0) fail("wait for a command");
		ssize_t len = read(0, line, sizeof line - 1);
		if (len <= 0) finish(len < 0);
		line[len] = 0;
		if (line[0] == 's') one();
		else if (line[0] == 'l') reach(atoi(line + 1));
		else if (line[0] == 'k') kill_all();
		else errno = EINVAL, fail("understand a command");
	}
}

int main(int argc, char **argv) {
	static const struct option options[] = {
		{"memory", 1, 0, MEMORY}, {"pids", 1, 0, PIDS}, {"cpu", 1, 0, CPU}, {"unified", 1, 0, UNIFIED},
		{"dir", 1, 0, 'd'}, {"program", 1, 0, 'x'}, {"template", 0, 0, 't'}, {"pooled", 0, 0, 'p'},
		{"rounds", 1, 0, 'n'}, {"live", 1, 0, 'l'}, {0, 0, 0, 0},
	};
	int rounds = 0, many = 0;
	for (int o; (o = getopt_long_only(argc, argv, "", options, 0)) != -1;) {
		if (o < GROUPS) {
			if ((group[o] = open(optarg, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0) fail(optarg);
		} else if (o == 'd') dir = optarg;
		else if (o == 'x') program = optarg;
		else if (o == 't') with_template = 1;
		else if (o == 'p') pooled = 1;
		else if (o == 'n') rounds = atoi(optarg);
		else if (o == 'l') many = atoi(optarg);
		else return 2;
	}
	int v1 = group[MEMORY] >= 0 && group[PIDS] >= 0 && group[CPU] >= 0;
	if (!dir || dir[0] != '/' || !program || optind != argc || (!v1 && group[UNIFIED] < 0)) {
		fprintf(stderr, "usage: bare -dir /EMPTY -program FILE {-memory DIR -pids DIR -cpu DIR [-unified DIR] | -unified DIR} [-template] [-pooled] [-rounds N | -live N]\n");
		return 2;
	}
	struct sigaction sa = {.sa_handler = on_signal};
	sigset_t stop;
	sigemptyset(&none), sigemptyset(&stop);
	for (int i = 0; i < 3; i++) {
		int s = (int[]){SIGINT, SIGTERM, SIGHUP}[i];
		sigaction(s, &sa, 0), sigaddset(&stop, s);
	}
	sigprocmask(SIG_SETMASK, &stop, 0); // seen only where we wait
	struct rlimit files; // a pidfd per live actor
	if (getrlimit(RLIMIT_NOFILE, &files)) fail("getrlimit");
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files)) fail("setrlimit");
	make_filter();
	make_template();
	for (int i = 0; pooled && i < POOL; i++) if (leaf_make(&pool[i])) fail("make cgroups");
	if (pooled) {
		struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
		int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (ioctl(s, SIOCSIFFLAGS, &lo)) fail("bring lo up");
		close(s);
	}
	for (int i = 0; i < rounds; i++) one(), usleep(1500);
	if (many) reach(many), kill_all();
	if (!rounds && !many) serve();
	finish(0);
}
