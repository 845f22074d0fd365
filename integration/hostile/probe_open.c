// Opens what it is told: probe_open MODE:PATH… with MODE r (read a byte), w
// (open for writing, nothing is written), c (create), l (list something) or
// x (execute). One line for each.
#include "guard.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>

static int attempt(char mode, const char *path) {
	char c;
	int fd;
	switch (mode) {
	case 'r':
		fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
		if (fd < 0) return -1;
		ssize_t n = read(fd, &c, 1);
		if (n == 0) errno = ENODATA;
		return n == 1 ? 0 : -1;
	case 'w':
		return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
	case 'c':
		return open(path, O_WRONLY | O_CREAT, 0600);
	case 'l': {
		DIR *d = opendir(path);
		if (!d) return -1;
		errno = 0;
		for (struct dirent *e; (e = readdir(d));) if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) return 0;
		if (!errno) errno = ENODATA;
		return -1;
	}
	case 'x': {
		int status = 0, pipefd[2], err = 0;
		if (pipe2(pipefd, O_CLOEXEC)) return -1;
		pid_t p = fork();
		if (p == 0) {
			execl(path, path, NULL);
			err = errno;
			_exit(write(pipefd[1], &err, sizeof err) < 0);
		}
		close(pipefd[1]);
		if (read(pipefd[0], &err, sizeof err) < 0) return -1;
		waitpid(p, &status, 0);
		errno = err;
		return err ? -1 : 0;
	}
	}
	errno = EINVAL;
	return -1;
}

int main(int argc, char **argv) {
	guard();
	for (int i = 1; i < argc; i++) TRY(argv[i], attempt(argv[i][0], argv[i] + 2));
	return 0;
}
