// Output: flood KIND BYTES. "lines" on stdout, "line" without a single newline,
// "stderr", or "both" in turns. BYTES is the total.
#include "guard.h"

int main(int argc, char **argv) {
	guard();
	if (argc < 3) return 2;
	static char chunk[8192];
	memset(chunk, 'y', sizeof chunk);
	if (strcmp(argv[1], "line")) for (int i = 63; i < (int)sizeof chunk; i += 64) chunk[i] = '\n';
	int fd = strcmp(argv[1], "stderr") ? 1 : 2, both = !strcmp(argv[1], "both");
	for (long left = atol(argv[2]); left > 0;) {
		ssize_t n = write(fd, chunk, left < (long)sizeof chunk ? (size_t)left : sizeof chunk);
		if (n < 0) return 1;
		left -= n;
		if (both) fd = 3 - fd;
	}
	return 0;
}
