// Processes: too many, too busy, or unwilling to go. Every bomb has a cap of
// its own, so that a sandbox that fails to hold it harms the host little.
//
//	procs fork        fork until it fails; the children stay. Exit 1 with EAGAIN.
//	procs forkloop    everybody forks for ever
//	procs threads     start threads until it fails
//	procs spin N      N processes that compute for ever
//	procs stubborn    sleeps, every signal blocked and ignored; prints "ready"
//	procs daemons N   N daemons in sessions of their own outlive the program
//	procs zombies     dies, leaving many dead children behind
#include "guard.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { CAP = 3000 };

static void deaf(void) {
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (int s = 1; s < NSIG; s++) signal(s, SIG_IGN);
}

static void *sleeper(void *arg) { for (;;) pause(); return arg; }

static int fork_bomb(void) {
	int n = 0, err = 0;
	for (; n < CAP; n++) {
		pid_t p = fork();
		if (p == 0) sleeper(NULL);
		if (p < 0) { err = errno; break; }
	}
	printf("forked %d: %s\n", n, strerrorname_np(err));
	return err != 0;
}

static int fork_loop(void) {
	int *count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (count == MAP_FAILED) return 2;
	puts("ready");
	for (;;) {
		if (*count >= CAP) pause();
		if (fork() == 0) __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
	}
}

static int thread_bomb(void) {
	int n = 0, err = 0;
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	for (pthread_t t; n < CAP && !(err = pthread_create(&t, &small, sleeper, NULL)); n++) {}
	printf("threads %d: %s\n", n, strerrorname_np(err));
	return err != 0;
}

static _Noreturn void spin(int n) {
	while (--n > 0 && fork() > 0) {}
	for (volatile unsigned long i = 0;; i++) {}
}

static int daemons(int n) {
	int up[2];
	if (pipe(up)) return 2;
	for (int i = 0; i < n; i++) {
		if (fork()) continue;
		setsid();
		if (fork()) _exit(0);
		deaf();
		if (write(up[1], "x", 1) != 1) _exit(2);
		for (;;) sleep(1000);
	}
	char c;
	for (int i = 0; i < n; i++) if (read(up[0], &c, 1) != 1) return 2;
	puts("daemons are up");
	return 0;
}

int main(int argc, char **argv) {
	guard();
	const char *what = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 1;
	if (!strcmp(what, "fork")) return fork_bomb();
	if (!strcmp(what, "forkloop")) return fork_loop();
	if (!strcmp(what, "threads")) return thread_bomb();
	if (!strcmp(what, "spin")) spin(n);
	if (!strcmp(what, "stubborn")) {
		deaf();
		puts("ready");
		for (;;) sleep(1000);
	}
	if (!strcmp(what, "daemons")) return daemons(n);
	if (!strcmp(what, "zombies")) {
		for (int i = 0; i < n; i++) if (fork() == 0) { if (fork() == 0) _exit(1); _exit(0); }
		kill(getpid(), SIGKILL);
	}
	return 2;
}
