// Files: too many, too large, too many open.
//
//	files fill CAP_MIB DIR…    write until every DIR refuses; "wrote N KiB: ENOSPC", exit 1
//	files inodes CAP DIR…      empty files until every DIR refuses; "made N: ENOSPC", exit 1
//	files sparse BYTES FILE    a hole of BYTES, one byte behind it
//	files large MIB FILE       one file of MIB
//	files open CAP             descriptors until EMFILE; "opened N: EMFILE", exit 1
//	files setid DIR            set-id bits and devices in DIR, one line for each attempt
#include "guard.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

static char block[65536];

static int fill(long cap, char **dirs) {
	long kib = 0;
	int err = 0;
	for (; *dirs; dirs++) {
		char path[4096];
		snprintf(path, sizeof path, "%s/fill", *dirs);
		int fd = open(path, O_CREAT | O_WRONLY, 0600);
		if (fd < 0) { printf("%s: %s\n", path, strerrorname_np(errno)); return 2; }
		for (ssize_t n; kib < cap << 10; kib += n >> 10) {
			if ((n = write(fd, block, sizeof block)) < (ssize_t)sizeof block) { err = n < 0 ? errno : ENOSPC; kib += n > 0 ? n >> 10 : 0; break; }
		}
	}
	printf("wrote %ld KiB: %s\n", kib, strerrorname_np(err));
	return err != 0;
}

static int inodes(long cap, char **dirs) {
	long made = 0;
	int err = 0;
	for (; *dirs; dirs++) {
		for (long i = 0; made < cap; i++, made++) {
			char path[4096];
			snprintf(path, sizeof path, "%s/%ld", *dirs, i);
			int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
			if (fd < 0) { err = errno; break; }
			close(fd);
		}
	}
	printf("made %ld: %s\n", made, strerrorname_np(err));
	return err != 0;
}

static int setid(const char *dir) {
	if (chdir(dir)) return 2;
	int fd = open("plain", O_CREAT | O_RDWR, 0755), dfd = open(".", O_RDONLY);
	TRY("chmod u+s", chmod("plain", 04755));
	TRY("chmod g+s", chmod("plain", 02755));
	TRY("fchmod u+s", fchmod(fd, 04755));
	TRY("fchmodat u+s", fchmodat(dfd, "plain", 04755, 0));
	TRY("creat 04755", creat("created", 04755));
	TRY("open O_CREAT 06755", open("opened", O_CREAT | O_WRONLY, 06755));
	TRY("open O_TMPFILE 04755", open(".", O_TMPFILE | O_WRONLY, 04755));
	TRY("mknod regular 04755", mknod("noded", S_IFREG | 04755, 0));
	TRY("mknod null", mknod("null", S_IFCHR | 0666, makedev(1, 3)));
	TRY("mknod disk", mknod("disk", S_IFBLK | 0666, makedev(254, 0)));
	TRY("mkfifo", mkfifo("fifo", 0600));
	TRY("mkdir 06755", mkdir("dir", 06755));
	return 0;
}

int main(int argc, char **argv) {
	guard();
	if (argc < 3) return 2;
	const char *what = argv[1];
	long n = atol(argv[2]);
	memset(block, 'x', sizeof block);
	if (!strcmp(what, "fill")) return fill(n, argv + 3);
	if (!strcmp(what, "inodes")) return inodes(n, argv + 3);
	if (!strcmp(what, "setid")) return setid(argv[2]);
	if (!strcmp(what, "open")) {
		long i = 0;
		while (i < n && dup(0) >= 0) i++;
		printf("opened %ld: %s\n", i, strerrorname_np(i < n ? errno : 0));
		return i < n;
	}
	int fd = open(argv[3], O_CREAT | O_WRONLY, 0600);
	if (!strcmp(what, "sparse")) {
		TRY("ftruncate", ftruncate(fd, n));
		TRY("pwrite", pwrite(fd, "x", 1, n));
		return 0;
	}
	if (!strcmp(what, "large")) {
		for (long i = 0; i < n * 16; i++) if (write(fd, block, sizeof block) < 0) { perror("write"); return 1; }
		return 0;
	}
	return 2;
}
