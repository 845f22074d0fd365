"""A program that nobody should trust. It tries what hostile code tries, and says what it got.

    sandboxd run --memory 64m --pids-limit 32 --timeout 10s -v ./examples/untrusted.py:/untrusted.py:ro -- python3 /untrusted.py

Without a sandbox it does no harm: it forks 100 children that sleep, and touches 256 MiB.
"""

import os
import signal
import socket
import sys


def tries(what):
    """Runs a function now and prints what came of it; what it raises is the kernel's answer."""

    def decorate(attempt):
        print(f"{what:<34}", end=" ", flush=True)
        try:
            print(attempt(), flush=True)
        except OSError as e:
            print(f"refused: {e.strerror or e}", flush=True)

    return decorate


@tries("who am I?")
def _():
    ids = [line.split() for line in open("/proc/self/status")]
    caps = next(value[1] for value in ids if value[0] == "CapEff:")
    return f"uid {os.getuid()}, capabilities {caps}, host name {os.uname().nodename}"


@tries("which processes can I see?")
def _():
    return ", ".join(sorted((p for p in os.listdir("/proc") if p.isdigit()), key=int))


@tries("read /etc/shadow")
def _():
    return f"READ {len(open('/etc/shadow').read())} bytes"


@tries("list what people have in /home")
def _():
    return os.listdir("/home")


@tries("list what root has in /root")
def _():
    return os.listdir("/root")


@tries("put a program into /usr/bin")
def _():
    with open("/usr/bin/backdoor", "w") as f:
        f.write("#!/bin/sh\n")
    os.remove("/usr/bin/backdoor")
    return "WRITTEN"


@tries("network interfaces")
def _():
    return ", ".join(name for _, name in socket.if_nameindex())


@tries("connect to a server (192.0.2.1:80)")
def _():
    with socket.create_connection(("192.0.2.1", 80), timeout=2):
        return "CONNECTED"


@tries("send packets of my own making")
def _():
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        return "OPENED"


@tries("kill process 1")
def _():
    os.kill(1, 0)  # asks whether it could, no more
    return "POSSIBLE"


@tries("fork 100 processes")
def _():
    children = []
    try:
        for _ in range(100):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
        return "FORKED 100"
    except OSError as e:
        return f"stopped after {len(children)}: {e.strerror}"
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@tries("use 256 MiB of memory")
def _():
    hoard = []
    for mib in range(0, 256, 4):
        hoard.append(b"x" * (4 << 20))
        if mib % 16 == 0:
            print(f"{mib}", end=" ", flush=True)
    return "USED 256 MiB"


sys.exit("still alive: nothing stopped me")
