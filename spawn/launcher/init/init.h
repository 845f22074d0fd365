// Shared by the three parts: launch.c (PID 1 of the launcher's namespace),
// step.c (the interpreter) and actor.c (PID 1 of one sandbox).
#pragma once
#include "sys.h"

// Step kinds: the protocol with package plan, in the same order.
enum kind {
	MOUNT_PRIVATE = 1, FSMOUNT, OPEN_TREE, ATTACH, SETATTR, MKDIR, SYMLINK, MKNOD, WRITE_FILE, IDMAP, PIVOT,
	LISTEN, JOIN_CGROUP, SYNC, SETID, UNSHARE, SETNS, OPEN_FILE, NETNS_START, NETNS_JOIN, HOSTNAME, LOOPBACK, UNDUMPABLE, SUBREAPER,
	KEYRING, RLIMIT, UMASK, AFFINITY, OOM_SCORE, TIME_OFFSETS, CONNECT, WELCOME, TTY, STDIO, FORK, SETSID, CHDIR,
	SECUREBITS, DROP_BOUNDING, DROP_CAPS, NO_NEW_PRIVS, LANDLOCK_CREATE, LANDLOCK_PATH, LANDLOCK_RESTRICT,
	SECCOMP, CLOSE_FROM, CONFINED, EXEC, LANDLOCK_FILE, EXEC_FD, KEEP, KIND_END
};

enum { RECURSIVE = 1, OPTIONAL = 2, EXIST = 4 };   // flags of OPEN_TREE, MKDIR, WRITE_FILE, LANDLOCK_PATH
enum { SLOTS = 64, SLOT_CWD = 255 };                            // SLOT_CWD: the executing process's "/"
enum { SLOT_REQUEST = 16, SLOT_LISTEN = 40, SLOT_SCRATCH = 41 }; // SLOT_REQUEST…: descriptors of the request; the two are sent back
enum { SECTION_SETUP, SECTION_PREPARE, SECTION_BEFORE, SECTION_AFTER };

// fail is a failed step; err 0 means none. Lives in memory shared with the launcher. Once Welcome is there, section is SECTION_AFTER.
struct fail { u16 section, step, index, err; };

struct ctx {
	int slot[SLOTS];
	volatile struct fail *fail;
	int sync;      // read end of the spawn's pipe; EOF means the launcher is gone
	int conn;      // the handshake socket
	int master;    // terminal to hand out with Ready
	int notify;    // seccomp listener to hand out with Confined
	int ruleset;   // Landlock ruleset under construction
	int keep_kill; // init keeps CAP_KILL, because the program has another uid
	int told;      // the supervisor sends signals by the handshake socket
	int pidns;     // init is PID 1 of its own pid namespace
	const char *socket; // name that LISTEN made, for the launcher to remove at the end
	long self;     // pid of the init
	long launcher; // pid of its parent, where they share a pid namespace
	long program;  // pid of the program, after FORK
	u64 epoch;     // of this incarnation, which Welcome must name
	u8 *rest;      // the second half of the plan, from Welcome
	u32 rest_len;
};

// run executes a section. It returns 0, or -errno after filling c->fail.
long run(struct ctx *c, const u8 *plan, u32 len, u16 section);

long connect_peer(struct ctx *c, const char *path, u64 proto, u64 epoch, const char *actor, u32 actor_len, const char *nonce);
long receive_welcome(struct ctx *c);
long send_frame(int fd, const u8 *body, u32 len, int pass);
long read_full(int fd, void *buf, u64 len);
long start_netns(void);
long mkuserns(u64 inside_uid, u64 outside_uid, u64 inside_gid, u64 outside_gid);
long write_map(long pid, const char *file, const char *text, u32 len);
void kill_children(int (*spare)(long pid));
char *utoa(u64 v, char *end);
u64 slen(const char *s);
_Noreturn void quit(int code);
_Noreturn void actor(struct ctx *c, const u8 *before, u32 len);
