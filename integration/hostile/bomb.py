# The bombs as a script language sets them off: fork, memory, threads, names.
# Each has a cap, should nothing else stop it, and none goes off in a namespace
# of the machine that runs the tests.
import os, sys, threading, time

CAP = 3000

def fork():
    for _ in range(CAP):
        if os.fork() == 0:
            time.sleep(1000)

def memory():
    hold = []
    for _ in range(CAP):
        hold.append(bytearray(1 << 20))

def threads():
    for _ in range(CAP):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()

def names(directory, count):
    """Files whose names hold every byte that a name may have."""
    legal = [bytes([b]) for b in range(1, 256) if b != ord("/")]
    base = os.fsencode(directory)
    for i in range(int(count)):
        name = b"%d" % i + legal[i % 254] + legal[i * 7 % 254] * (i % 100)
        with open(os.path.join(base, name), "wb") as f:
            f.write(b"x")

for ns in ("pid", "mnt", "user"):
    if os.readlink("/proc/self/ns/" + ns) in HOST_NAMESPACES:
        sys.exit("not in a sandbox; nothing done")
{"fork": fork, "memory": memory, "threads": threads, "names": names}[sys.argv[1]](*sys.argv[2:])
