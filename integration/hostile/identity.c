// What a program inherited: one fact per line.
#include "guard.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

extern char **environ;

int main(int argc, char **argv) {
	guard();
	printf("fds:");
	for (int fd = 0; fd < 4096; fd++) if (fcntl(fd, F_GETFD) >= 0) printf(" %d", fd);
	printf("\nargs: %d\nignored:", argc);
	for (int s = 1; s < NSIG; s++) {
		struct sigaction a;
		if (!sigaction(s, NULL, &a) && a.sa_handler != SIG_DFL) printf(" %d", s);
	}
	printf("\nblocked:");
	sigset_t mask;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int s = 1; s < NSIG; s++) if (sigismember(&mask, s) == 1) printf(" %d", s);
	cpu_set_t cpus;
	char cwd[4096] = "?";
	if (!getcwd(cwd, sizeof cwd)) perror("getcwd");
	printf("\ncpus: %d\n", sched_getaffinity(0, sizeof cpus, &cpus) ? -1 : CPU_COUNT(&cpus));
	printf("cwd: %s\n", cwd);
	printf("umask: %03o\n", umask(0));
	printf("nice: %d\n", getpriority(PRIO_PROCESS, 0));
	printf("personality: %x\n", personality(0xffffffff));
	printf("securebits: %x\n", prctl(PR_GET_SECUREBITS));
	printf("no_new_privs: %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	printf("keepcaps: %d\n", prctl(PR_GET_KEEPCAPS));
	printf("uid: %d %d\n", getuid(), geteuid());
	printf("gid: %d %d\n", getgid(), getegid());
	printf("groups: %d\n", getgroups(0, NULL));
	printf("leader: %s\n", getsid(0) == getpid() || getpgrp() == getpid() ? "yes" : "no");
	for (char **e = environ; *e; e++) printf("env: %.60s\n", *e);
	return argv[0] == NULL;
}
