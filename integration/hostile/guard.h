// Every hostile program calls guard() first: it refuses to attack the machine
// that runs the tests. HOST_PIDNS is given by the test that compiles it.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void guard(void) {
	char ns[64] = {0};
	if (readlink("/proc/self/ns/pid", ns, sizeof ns - 1) < 0 || !strcmp(ns, HOST_PIDNS)) {
		fprintf(stderr, "guard: not in a sandbox (%s); nothing done\n", ns);
		exit(99);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
}

// result prints one attempt: its name and OK or the errno's name.
static inline void result(const char *name, long r) {
	printf("%s: %s\n", name, r != -1 ? "OK" : strerrorname_np(errno));
}

#define TRY(name, call) do { errno = 0; result(name, (long)(call)); } while (0)
