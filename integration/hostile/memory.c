// Memory in all the ways that a limit must count: memory KIND MIB [FILE].
//
//	anon    private pages        file   pages of FILE
//	sysv    System V segments    memfd  a file without a name
//
// Prints "held N MiB" when it could have all; exit 1 when the kernel said no.
#include "guard.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>

enum { MIB = 1 << 20 };

static void touch(char *p, size_t n) { for (size_t i = 0; i < n; i += 4096) p[i] = (char)(i | 1); }

int main(int argc, char **argv) {
	guard();
	const char *kind = argc > 2 ? argv[1] : "";
	int mib = argc > 2 ? atoi(argv[2]) : 0, fd = -1;
	static char block[MIB];
	memset(block, 'x', MIB);
	if (!strcmp(kind, "file")) fd = open(argv[3], O_CREAT | O_RDWR, 0600);
	if (!strcmp(kind, "memfd")) fd = memfd_create("hog", 0);
	for (int i = 0; i < mib; i++) {
		char *p = block;
		if (!strcmp(kind, "anon")) {
			p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		} else if (!strcmp(kind, "sysv")) {
			int id = shmget(IPC_PRIVATE, MIB, IPC_CREAT | 0600);
			p = id < 0 ? MAP_FAILED : shmat(id, NULL, 0);
		} else if (write(fd, block, MIB) != MIB) {
			p = MAP_FAILED;
		}
		if (p == MAP_FAILED || p == (void *)-1) {
			printf("held %d MiB: %s\n", i, strerrorname_np(errno));
			return 1;
		}
		if (p != block) touch(p, MIB);
	}
	printf("held %d MiB\n", mib);
	return 0;
}
