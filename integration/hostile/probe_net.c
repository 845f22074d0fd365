// Connects to what it is told: probe_net tcp:PORT, unix:PATH, abstract:NAME,
// udp:PORT, tcp6:PORT. One line for each.
#include "guard.h"
#include <arpa/inet.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static int inet(int type, int port) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, type, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a)) return -1;
	if (type == SOCK_STREAM) return 0;
	char c = 'x'; // UDP learns of a closed port by ICMP only
	if (send(fd, &c, 1, 0) < 0) return -1;
	struct timeval tv = {1, 0};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	return recv(fd, &c, 1, 0) < 0 ? -1 : 0;
}

static int inet6(int port) {
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port), .sin6_addr = in6addr_loopback};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, sizeof a);
}

static int local(const char *name, int abstract) {
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	strncpy(a.sun_path + abstract, name, sizeof a.sun_path - 2);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + strlen(name)));
}

int main(int argc, char **argv) {
	guard();
	for (int i = 1; i < argc; i++) {
		char *kind = strdup(argv[i]), *where = strchr(kind, ':');
		if (!where) return 2;
		*where++ = 0;
		int port = atoi(where);
		if (!strcmp(kind, "tcp")) TRY(kind, inet(SOCK_STREAM, port));
		else if (!strcmp(kind, "udp")) TRY(kind, inet(SOCK_DGRAM, port));
		else if (!strcmp(kind, "tcp6")) TRY(kind, inet6(port));
		else TRY(kind, local(where, !strcmp(kind, "abstract")));
	}
	return 0;
}
