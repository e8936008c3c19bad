"""Hosts to ssh to, made on this machine: each in namespaces of its own, with sshd inside."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import command_of

PROGRAMS = ("sshd", "ssh", "ssh-keygen", "rsync", "ip", "unshare")

# Its own processes, shared memory, names, home and Ray session; one folder is mounted on all, as
# NFS would be. Everything else of the disk is this machine's.
BOOT = """
set -e
hostname {name}
mount -t tmpfs tmpfs /dev/shm
(cd {place} && mkdir -p ray home/shared)
mount --bind {place}/ray /tmp/ray
mount --bind {place}/home {home}
mount --bind {shared} {home}/shared
sed "s,^\\\\(root:.*\\\\):[^:]*:,\\\\1:{home}:," /etc/passwd > {place}/passwd
mount --bind {place}/passwd /etc/passwd
printf '127.0.0.1 localhost\\n{address} {name}\\n' > {place}/hosts
mount --bind {place}/hosts /etc/hosts
mount --bind /dev/null /etc/resolv.conf
exec {sshd} -D -e -f /dev/null -o ListenAddress={address} -o HostKey={key} -o PidFile=none \
  -o AuthorizedKeysFile={key}.pub -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes
"""
# What an installation would leave in ~/env/bin: raylab from the copy that `ray up` brought.
LAUNCHER = """#!/bin/sh
export PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}$HOME/raylab
exec {command} "$@"
"""


def require_hosts() -> None:
    """Skip with the reason where such hosts cannot be made."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (apt install openssh-server rsync)")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


@dataclass(frozen=True)
class Hosts:
    """Names and addresses of the hosts, the key that opens them, the home of their user, and the
    folder that all of them mount.
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    key: Path
    home: Path
    shared: Path

    def commands(self, place: int) -> bytes:
        """The command lines of all that runs on that host."""
        return b"\n".join(map(command_of, pids_on(self.names[place])))


@contextmanager
def ssh_hosts(place: Path, count: int) -> Iterator[Hosts]:
    """So many hosts on a bridge of their own; all their processes have ended afterwards."""
    require_hosts()
    tag, net = secrets.token_hex(2), 1 + secrets.randbelow(250)
    bridge, key, home, shared = f"rl{tag}", place / "key", place / "root", place / "shared"
    home.mkdir()
    shared.mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)
    Path("/tmp/ray").mkdir(exist_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    run("ip", "link", "add", bridge, "type", "bridge")
    booted: list[subprocess.Popen[bytes]] = []
    names = tuple(f"{bridge}h{i}" for i in range(count))
    addresses = tuple(f"10.77.{net}.{11 + i}" for i in range(count))
    try:
        run("ip", "addr", "add", f"10.77.{net}.1/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        for name, address in zip(names, addresses, strict=True):
            plug_in(name, address, bridge)
            booted.append(boot(place / name, name, address, key, home, shared))
        for address in addresses:
            wait_for_ssh(address)
        yield Hosts(names, addresses, key, home, shared)
    finally:
        for host in booted:
            host.kill()  # of the first process of its pid namespace: all others end with it
            host.wait()
        for name in names:
            for pid in pids_on(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            run("ip", "netns", "del", name, check=False)
        run("ip", "link", "del", bridge, check=False)


def plug_in(name: str, address: str, bridge: str) -> None:
    """A network namespace with one cable into the bridge."""
    run("ip", "netns", "add", name)
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "link", "set", name, "master", bridge, "up")
    inside = ("ip", "netns", "exec", name, "ip")
    run(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "link", "set", "lo", "up")
    # It leads nowhere: from a default route a host knows which of its addresses is its own.
    run(*inside, "route", "add", "default", "dev", "eth0")


def boot(
    place: Path, name: str, address: str, key: Path, home: Path, shared: Path
) -> "subprocess.Popen[bytes]":
    """Start the host's first process, which becomes sshd."""
    programs = place / "home" / "env" / "bin"
    programs.mkdir(parents=True)
    (place / "home" / ".bashrc").touch()
    bin_of = Path(sys.executable).parent
    for program, command in {
        "python": sys.executable,
        "ray": f"{sys.executable} {bin_of / 'ray'}",
        "raylab": f"{sys.executable} -m raylab",
    }.items():
        launcher = programs / program
        launcher.write_text(LAUNCHER.format(command=command))
        launcher.chmod(0o755)
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    script = BOOT.format(
        name=name, place=place, address=address, key=key, home=home, shared=shared, sshd=sshd
    )
    isolated = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--uts")
    with (place / "boot.log").open("w") as log:
        return subprocess.Popen(
            ["ip", "netns", "exec", name, *isolated, "sh", "-c", script],
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_for_ssh(address: str) -> None:
    for _ in range(100):
        try:
            socket.create_connection((address, 22), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"no sshd at {address}")


def pids_on(name: str) -> list[int]:
    """Of every process in that network namespace."""
    return [int(pid) for pid in run("ip", "netns", "pids", name, check=False).split()]


def run(*command: str, check: bool = True) -> str:
    """The program's stdout; CalledProcessError if it fails."""
    done = subprocess.run(command, check=check, capture_output=True, text=True)
    return done.stdout
