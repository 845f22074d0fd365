// Attacks on the sandbox's PID 1 and on the parent, which see the same kernel
// objects as the program. One line for each attempt.
#include "guard.h"
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static int open_proc(const char *pid, const char *file, int flags) {
	char path[256];
	snprintf(path, sizeof path, "/proc/%s/%s", pid, file);
	return open(path, flags | O_CLOEXEC);
}

// read_proc reads a byte: some files open for their owner and then say nothing.
static int read_proc(const char *file) {
	char c;
	int fd = open_proc("1", file, O_RDONLY);
	return fd < 0 || read(fd, &c, 1) < 0 ? -1 : 0;
}

// any opens the file of every process that shows, for writing: OK if one could be opened.
static int any(const char *file, int flags) {
	DIR *d = opendir("/proc");
	int last = EACCES;
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
		if (open_proc(e->d_name, file, flags) >= 0) return 0;
		last = errno;
	}
	errno = last;
	return -1;
}

static int listed(const char *path) {
	DIR *d = opendir(path);
	if (!d) return -1;
	int n = 0;
	errno = 0;
	while (readdir(d)) n++;
	return n > 2 ? 0 : (errno = errno ? errno : ENOENT, -1);
}

int main(void) {
	guard();
	char buf[64];
	struct iovec mine = {buf, sizeof buf}, theirs = {(void *)0x400000, sizeof buf};
	struct rlimit lim = {16, 16};
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	int pidfd = (int)syscall(SYS_pidfd_open, 1, 0);

	TRY("ptrace attach", ptrace(PTRACE_ATTACH, 1, 0, 0));
	TRY("ptrace seize", ptrace(PTRACE_SEIZE, 1, 0, 0));
	TRY("process_vm_readv", process_vm_readv(1, &mine, 1, &theirs, 1, 0));
	TRY("process_vm_writev", process_vm_writev(1, &mine, 1, &theirs, 1, 0));
	TRY("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 0, 0));
	TRY("setns by pidfd", setns(pidfd, CLONE_NEWNS));
	TRY("kcmp", syscall(SYS_kcmp, getpid(), 1, 0, 0, 0));
	TRY("process_madvise", syscall(SYS_process_madvise, pidfd, &theirs, 1, 4, 0));
	for (const char **f = (const char *[]){"environ", "mem", "maps", "auxv", "stack", "syscall", "pagemap", "smaps", "io", NULL}; *f; f++) {
		snprintf(buf, sizeof buf, "read %s", *f);
		TRY(buf, read_proc(*f));
	}
	TRY("write mem", open_proc("1", "mem", O_WRONLY));
	TRY("write oom_score_adj", open_proc("1", "oom_score_adj", O_WRONLY));
	TRY("write uid_map", open_proc("1", "uid_map", O_WRONLY));
	TRY("write coredump_filter", open_proc("1", "coredump_filter", O_WRONLY));
	TRY("open exe", open_proc("1", "exe", O_RDONLY));
	TRY("write exe", open_proc("1", "exe", O_WRONLY));
	TRY("write any exe", any("exe", O_WRONLY));
	TRY("list fd", listed("/proc/1/fd"));
	TRY("link fd/0", readlink("/proc/1/fd/0", buf, sizeof buf));
	TRY("list root", listed("/proc/1/root/"));
	TRY("list cwd", listed("/proc/1/cwd/"));
	TRY("open ns/mnt", open_proc("1", "ns/mnt", O_RDONLY));
	TRY("open ns/net", open_proc("1", "ns/net", O_RDONLY));
	TRY("prlimit", prlimit(1, RLIMIT_NOFILE, &lim, NULL));
	TRY("setpriority", setpriority(PRIO_PROCESS, 1, 19));
	TRY("sched_setaffinity", sched_setaffinity(1, sizeof one, &one));
	TRY("kill STOP", kill(1, SIGSTOP));
	TRY("kill TERM", kill(1, SIGTERM));
	TRY("kill INT", kill(1, SIGINT));
	TRY("kill KILL", kill(1, SIGKILL));
	TRY("pidfd_send_signal", syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0));
	TRY("kill parent", kill(getppid(), SIGKILL));
	TRY("kill parent's group", getpgid(getppid()) > 0 ? kill(-getpgid(getppid()), SIGKILL) : (errno = ESRCH, -1));
	siginfo_t forged = {.si_signo = SIGTERM, .si_code = SI_QUEUE};
	TRY("sigqueue", syscall(SYS_rt_sigqueueinfo, 1, SIGTERM, &forged));
	signal(SIGTERM, SIG_IGN);
	kill(-1, SIGTERM); // spares the caller on Linux; nobody else is here to be hit
	usleep(200000);    // time for whatever was hit to fall
	puts("survived");
	return 7;
}
