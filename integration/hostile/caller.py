# An unpleasant caller: starts its arguments as a program with signals ignored
# and blocked, descriptors without close-on-exec and a closed umask. None of it
# may reach a sandboxed program; only its low priority must.
import os, signal, sys

for s in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR2):
    signal.signal(s, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGALRM, signal.SIGWINCH, signal.SIGTERM})
for n in (7, 23, 400):
    os.dup2(os.open("/", os.O_RDONLY), n, inheritable=True)
os.umask(0o177)
os.nice(3)
os.environ["HOST_SECRET"] = "do not leak"
os.execv(sys.argv[1], sys.argv[1:])
