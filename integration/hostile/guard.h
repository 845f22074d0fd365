// Every hostile program calls guard() first: it refuses to attack the machine
// that runs the tests. HOST_NAMESPACES, the names of that machine's, is given
// by the test that compiles it.
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
	for (const char **f = (const char *[]){"pid", "mnt", "user", NULL}; *f; f++) {
		char path[64], ns[64] = {0};
		snprintf(path, sizeof path, "/proc/self/ns/%s", *f);
		if (readlink(path, ns, sizeof ns - 1) < 0 || strstr(HOST_NAMESPACES, ns)) {
			fprintf(stderr, "guard: not in a sandbox (%s namespace %s); nothing done\n", *f, ns);
			exit(99);
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
}

// result prints one attempt: its name and OK or the errno's name.
static inline void result(const char *name, long r) {
	printf("%s: %s\n", name, r != -1 ? "OK" : strerrorname_np(errno));
}

#define TRY(name, call) do { errno = 0; result(name, (long)(call)); } while (0)
