# The bombs as a script language sets them off: fork, memory, threads, names.
import os, sys, threading, time

def fork():
    while True:
        os.fork()

def memory(mib=4096):
    hold = []
    for _ in range(mib):
        hold.append(bytearray(1 << 20))

def threads():
    while True:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()

def names(directory, count):
    """Files whose names hold every byte that a name may have."""
    legal = [bytes([b]) for b in range(1, 256) if b != ord("/")]
    base = os.fsencode(directory)
    for i in range(int(count)):
        name = b"%d" % i + legal[i % 254] + legal[i * 7 % 254] * (i % 100)
        with open(os.path.join(base, name), "wb") as f:
            f.write(b"x")

if os.readlink("/proc/self/ns/pid") == os.environ["HOST_PIDNS"]:
    sys.exit("not in a sandbox; nothing done")
{"fork": fork, "memory": memory, "threads": threads, "names": names}[sys.argv[1]](*sys.argv[2:])
