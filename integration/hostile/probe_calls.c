// System calls that no program in a sandbox has a use for, and that open the
// kernel or the host if they work. One line for each attempt; arguments are
// such that the kernel, and not a bad pointer, gives the answer.
#include "guard.h"
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#include <grp.h>

#ifndef AF_SMC
#define AF_SMC 43
#endif

static long cloned(long r) {
	if (r == 0) _exit(0);
	if (r > 0) waitpid((pid_t)r, NULL, 0);
	return r;
}

static long clone_with(unsigned long flags) { return cloned(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0)); }

static long clone3_with(unsigned long flags) {
	struct clone_args a = {.flags = flags, .exit_signal = SIGCHLD};
	return cloned(syscall(SYS_clone3, &a, sizeof a));
}

#ifdef __x86_64__
// by_32bit_door is a call by int 0x80, in a child: a machine may have no such door, which is a fault, and no call.
static long by_32bit_door(long nr) {
	int st;
	pid_t child = fork();
	if (child == 0) {
		__asm__ volatile("int $0x80" : "+a"(nr) : : "memory");
		_exit(nr < 0 && nr > -256 ? (int)-nr : 0);
	}
	if (child < 0 || waitpid(child, &st, 0) < 0) return -1;
	errno = WIFSIGNALED(st) ? ENOSYS : WEXITSTATUS(st);
	return errno ? -1 : 0;
}
#endif

static const struct { const char *name; unsigned long flag; } spaces[] = {
	{"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS}, {"pid", CLONE_NEWPID}, {"net", CLONE_NEWNET},
	{"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS}, {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME},
};

static void namespaces(void) {
	char name[64];
	for (unsigned i = 0; i < sizeof spaces / sizeof *spaces; i++) {
		snprintf(name, sizeof name, "unshare %s", spaces[i].name);
		TRY(name, syscall(SYS_unshare, spaces[i].flag));
		if (spaces[i].flag == CLONE_NEWTIME) continue; // for clone(2) that bit is part of the exit signal
		snprintf(name, sizeof name, "clone %s", spaces[i].name);
		TRY(name, clone_with(spaces[i].flag));
		snprintf(name, sizeof name, "clone user+%s", spaces[i].name);
		TRY(name, clone_with(CLONE_NEWUSER | spaces[i].flag));
	}
	TRY("clone3", clone3_with(0));
	TRY("clone3 user", clone3_with(CLONE_NEWUSER));
	TRY("clone3 time", clone3_with(CLONE_NEWTIME));
	int ns = open("/proc/self/ns/mnt", O_RDONLY);
	TRY("setns mnt", setns(ns, CLONE_NEWNS));
	TRY("setns any", setns(ns, 0));
}

static void mounts(void) {
	TRY("mount tmpfs", mount("none", "/tmp", "tmpfs", 0, NULL));
	TRY("mount proc", mount("none", "/tmp", "proc", 0, NULL));
	TRY("mount bind", mount("/", "/tmp", NULL, MS_BIND | MS_REC, NULL));
	TRY("mount remount rw", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
	TRY("mount shared", mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL));
	TRY("umount /proc", umount2("/proc", MNT_DETACH));
	TRY("umount /", umount2("/", MNT_DETACH));
	TRY("pivot_root", syscall(SYS_pivot_root, ".", "."));
	TRY("open_tree clone", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
	TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
	TRY("fspick", syscall(SYS_fspick, AT_FDCWD, "/", 0));
	TRY("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/", 0));
	TRY("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, (unsigned long[4]){0}, 32));
	mkdir("/tmp/jail", 0700);
	int out = open("/", O_RDONLY);
	TRY("chroot", chroot("/tmp/jail"));
	int up = fchdir(out);
	for (int i = 0; i < 32; i++) up |= chdir("..");
	TRY("chroot escape", up ? -1 : chroot("."));
	TRY("fchdir stays in", access("/home/sandbox", F_OK) == 0 ? (errno = EPERM, -1) : 0);
	char handle[128] = {0};
	*(unsigned *)handle = 120;
	int id;
	TRY("name_to_handle_at", syscall(SYS_name_to_handle_at, AT_FDCWD, "/tmp", handle, &id, 0));
	TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, out, handle, 0));
	TRY("quotactl", syscall(SYS_quotactl, 0, "/dev/vda", 0, 0));
	TRY("swapon", syscall(SYS_swapon, "/tmp/jail", 0));
	TRY("acct", syscall(SYS_acct, "/tmp/jail"));
	TRY("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
}

static void kernel(void) {
	union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
	struct perf_event_attr ev = {.type = PERF_TYPE_SOFTWARE, .size = sizeof ev, .config = PERF_COUNT_SW_CPU_CLOCK};
	char ring[256] = {0};
	TRY("bpf map", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
	TRY("bpf prog", syscall(SYS_bpf, BPF_PROG_LOAD, &map, sizeof map));
	TRY("perf_event_open", syscall(SYS_perf_event_open, &ev, 0, -1, -1, 0));
	TRY("io_uring_setup", syscall(SYS_io_uring_setup, 4, ring));
	TRY("io_uring_enter", syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0));
	TRY("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
	TRY("userfaultfd user mode", syscall(SYS_userfaultfd, O_CLOEXEC | 1));
	TRY("add_key", syscall(SYS_add_key, "user", "hostile", "x", 1, -3));
	TRY("request_key", syscall(SYS_request_key, "user", "hostile", NULL, -3));
	TRY("keyctl session", syscall(SYS_keyctl, 0, -3, 1));
	TRY("keyctl read", syscall(SYS_keyctl, 11, -3, ring, sizeof ring));
	TRY("init_module", syscall(SYS_init_module, ring, sizeof ring, ""));
	TRY("finit_module", syscall(SYS_finit_module, 0, "", 0));
	TRY("delete_module", syscall(SYS_delete_module, "loop", O_NONBLOCK));
	TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
#ifdef SYS_kexec_file_load
	TRY("kexec_file_load", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 4));
#endif
	TRY("reboot", syscall(SYS_reboot, 0, 0, 0, NULL)); // wrong magic on purpose
	TRY("syslog", syscall(SYS_syslog, 3, ring, sizeof ring));
	TRY("ptrace traceme", syscall(SYS_ptrace, 0, 0, 0, 0));
	TRY("memfd_secret", syscall(447, 0));
	TRY("move_pages", syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0));
	TRY("mbind", syscall(SYS_mbind, 0, 0, 0, NULL, 0, 0));
	TRY("vmsplice", syscall(SYS_vmsplice, 1, NULL, 0, 0));
	TRY("statmount", syscall(457, NULL, NULL, 0, 0));
	TRY("listns", syscall(470, NULL, NULL, 0, 0));
	TRY("no such call", syscall(900));
#ifdef __x86_64__
	TRY("iopl", syscall(SYS_iopl, 3));
	TRY("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
	TRY("modify_ldt", syscall(SYS_modify_ldt, 0, ring, sizeof ring));
	TRY("x32 getpid", syscall(0x40000000 | SYS_getpid));
	TRY("int 0x80 getpid", by_32bit_door(20));
#endif
}

static void identity(void) {
	struct timeval tv = {0, 0};
	struct timespec ts = {0, 0};
	struct timex tx = {0};
	gid_t group = 0;
	struct rlimit more = {4096, 1 << 20};
	struct sched_param prio = {1};
	unsigned head[2] = {0x20080522, 0}, caps[6] = {1 << 21, 1 << 21, 0, 0, 0, 0}; // CAP_SYS_ADMIN
	TRY("setuid 0", setuid(0));
	TRY("setresuid 65534", syscall(SYS_setresuid, 65534, 65534, 65534));
	TRY("setgid 0", setgid(0));
	TRY("setgroups", setgroups(1, &group));
	TRY("capset", syscall(SYS_capset, head, caps));
	TRY("ambient capability", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0));
	TRY("securebits", prctl(PR_SET_SECUREBITS, 0));
	TRY("undo no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
	TRY("sethostname", sethostname("owned", 5));
	TRY("setdomainname", setdomainname("owned", 5));
	TRY("settimeofday", settimeofday(&tv, NULL));
	TRY("clock_settime", clock_settime(CLOCK_REALTIME, &ts));
	TRY("adjtimex", syscall(SYS_adjtimex, &tx));
	TRY("personality no ASLR", personality(ADDR_NO_RANDOMIZE));
	TRY("raise RLIMIT_NOFILE", setrlimit(RLIMIT_NOFILE, &more));
	TRY("SCHED_FIFO", sched_setscheduler(0, SCHED_FIFO, &prio));
	TRY("nice -5", setpriority(PRIO_PROCESS, 0, -5));
	TRY("ioprio realtime", syscall(SYS_ioprio_set, 1, 0, 1 << 13));
	TRY("vhangup", syscall(SYS_vhangup));
	TRY("TIOCSTI", ioctl(0, TIOCSTI, "x"));
	TRY("TIOCSTI, dirty upper half", syscall(SYS_ioctl, 0, 0x100000000ul | TIOCSTI, "x"));
	TRY("TIOCLINUX", ioctl(0, TIOCLINUX, "\3"));
	TRY("mknod null", mknod("/tmp/null", S_IFCHR | 0666, makedev(1, 3)));
}

static void sockets(void) {
	static const struct { const char *name; int family, type, protocol; } s[] = {
		{"socket raw ICMP", AF_INET, SOCK_RAW, 1}, {"socket raw", AF_INET, SOCK_RAW, 255}, {"socket raw IPv6", AF_INET6, SOCK_RAW, 255},
		{"socket packet", AF_PACKET, SOCK_RAW, 0x300}, {"socket packet dgram", AF_PACKET, SOCK_DGRAM, 0x300},
		{"socket alg", 38, SOCK_SEQPACKET, 0}, {"socket vsock", 40, SOCK_STREAM, 0}, {"socket rxrpc", 33, SOCK_DGRAM, AF_INET},
		{"socket key", AF_KEY, SOCK_RAW, 2}, {"socket xdp", 44, SOCK_RAW, 0}, {"socket tipc", 30, SOCK_SEQPACKET, 0},
		{"socket smc", AF_SMC, SOCK_STREAM, 0}, {"socket bluetooth", 31, SOCK_RAW, 1}, {"socket can", 29, SOCK_RAW, 1},
		{"socket nfc", 39, SOCK_SEQPACKET, 0}, {"socket rds", 21, SOCK_SEQPACKET, 0}, {"socket pppox", 24, SOCK_STREAM, 0},
		{"socket sctp", AF_INET, SOCK_STREAM, 132}, {"socket mptcp", AF_INET, SOCK_STREAM, 262},
		{"socket netfilter", AF_NETLINK, SOCK_RAW, 12}, {"socket xfrm", AF_NETLINK, SOCK_RAW, 6}, {"socket uevent", AF_NETLINK, SOCK_RAW, 15},
		{"socket audit", AF_NETLINK, SOCK_RAW, 9},
	};
	for (unsigned i = 0; i < sizeof s / sizeof *s; i++) TRY(s[i].name, socket(s[i].family, s[i].type, s[i].protocol));
}

int main(void) {
	guard();
	kernel(); // before mounts, whose chroot would matter if it worked
	identity();
	sockets();
	namespaces();
	mounts();
	return 0;
}
