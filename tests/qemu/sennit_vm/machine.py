"""One boot of a virtual machine, which ends with the command that it was booted for.

Everything is emulated (QEMU's TCG), so that it is the same wherever the tests run. The machine's file system comes by
virtiofs, the only one of the ways to share a directory that Debian's cloud kernels have. Of the three serial lines one
is for the kernel's messages, one for the command's output, and one for its exit status.
"""

from __future__ import annotations

import lzma
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from sennit_lab.commands import run
from sennit_lab.errors import LabError

from .kernel import Kernel

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
BUSYBOX = "/usr/bin/busybox"
# To reach the machine's file system; everything else is loaded when the kernel asks for it.
MODULES = ("virtio_pci", "virtiofs", "overlay")

# A kernel that panics ends the machine; and the faults of real processors cost much to evade in an emulated one. On a
# busy machine the emulated timer stands still for longer than the kernel's check of it takes, which panics then.
_ARGUMENTS = ("console=ttyS0", "panic=-1", "random.trust_cpu=on", "mitigations=off", "no_timer_check")

_FIRST = """\
#!/bin/busybox sh
set -e
busybox() { /bin/busybox "$@"; }
busybox mount -t devtmpfs dev /dev
for module in /modules/*; do busybox insmod "$module"; done
busybox mount -t virtiofs -o ro machine /machine
busybox mount -t tmpfs written /written
busybox mkdir /written/upper /written/work
busybox mount -t overlay -o lowerdir=/machine,upperdir=/written/upper,workdir=/written/work root /target
busybox mkdir -p /target/dev /target/proc /target/sys /target/run /target/tmp
busybox mount --move /dev /target/dev
busybox mount -t tmpfs run /target/run
busybox cp /second /target/run/second
exec /bin/busybox switch_root /target /bin/sh /run/second
"""

_SECOND = """\
export PATH={path} HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs tmp /tmp
mkdir -p /dev/net /dev/pts /dev/shm /run/netns /lib/modules/{release}
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount --bind {modules} /lib/modules/{release}
ln -s /proc/self/fd /dev/fd
mknod /dev/net/tun c 10 200
ip link set lo up
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
cd {directory}
( {command}; echo $? >/dev/ttyS2 ) </dev/null 2>&1 | cat >/dev/ttyS1
echo o >/proc/sysrq-trigger
wait
"""

# In a mount namespace that ends with it. Only to read, and without what else is mounted.
_SERVE = 'mount --bind / "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


class Vm:
    """A virtual machine that is yet to run a command. Its own files are in `scratch`."""

    def __init__(self, kernel: Kernel, scratch: Path, memory: int = 3072, processors: int = 2) -> None:
        """memory is in MiB, and not taken before it is used."""
        self._kernel = kernel
        self._scratch = scratch
        self._memory = memory
        self._processors = processors
        self._console = scratch / "console"
        self._status = scratch / "status"
        self._socket = scratch / "virtiofs.sock"

    def run(
        self, command: Sequence[str], directory: Path, arguments: Sequence[str], timeout: float, output: IO[bytes]
    ) -> int:
        """Boot with these kernel arguments, run the command in the directory, and return its exit status.

        Raises LabError when that has not come to an end after `timeout` seconds.
        """
        self._pack_initramfs(command, directory)
        files = self._files()
        try:
            qemu = subprocess.run(
                self._qemu(arguments), stdin=subprocess.DEVNULL, stdout=output, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise self._failure(f"the command has not ended after {timeout:.0f} s") from None
        finally:
            files.kill()
            files.wait()
        status = self._status.read_text(encoding="ascii").strip() if self._status.exists() else ""
        if not status:
            raise self._failure(f"it ended before the command did (exit status of QEMU: {qemu.returncode})")
        return int(status)

    def _pack_initramfs(self, command: Sequence[str], directory: Path) -> None:
        root = self._scratch / "initramfs"
        for name in ("bin", "dev", "machine", "modules", "target", "written"):
            (root / name).mkdir(parents=True)
        shutil.copy2(BUSYBOX, root / "bin/busybox")
        for number, module in enumerate(self._kernel.needed(*MODULES)):
            content = module.read_bytes()
            name = f"{number:02}-{module.name.removesuffix('.xz')}"
            (root / "modules" / name).write_bytes(lzma.decompress(content) if module.suffix == ".xz" else content)
        (root / "init").write_text(_FIRST, encoding="ascii")
        (root / "init").chmod(0o755)
        second = _SECOND.format(
            release=self._kernel.release,
            modules=self._kernel.modules,
            path=shlex.quote(os.environ["PATH"]),
            directory=shlex.quote(str(directory)),
            command=shlex.join(command),
        )
        (root / "second").write_text(second, encoding="utf-8")
        pack = 'cd "$1" && find . | busybox cpio -o -H newc >"$2"'
        run("sh", "-c", pack, "pack", str(root), str(self._initramfs))

    @property
    def _initramfs(self) -> Path:
        return self._scratch / "initramfs.cpio"

    def _files(self) -> subprocess.Popen[bytes]:
        """The process that serves the machine's file system."""
        shared = self._scratch / "machine"
        shared.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(self._socket))
            listener.listen(1)
            serve = [VIRTIOFSD, f"--fd={listener.fileno()}", "-o", f"source={shared}", "-o", "cache=always"]
            return subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SERVE, "serve", str(shared), *serve],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(listener.fileno(),),
            )

    def _qemu(self, arguments: Sequence[str]) -> list[str]:
        return [
            # Whoever ends this process, and however, ends the machine.
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
            *("-accel", "tcg,thread=multi", "-machine", "q35,memory-backend=memory", "-cpu", "max,la57=off"),
            *("-smp", str(self._processors), "-m", str(self._memory), "-nodefaults", "-no-reboot", "-display", "none"),
            *("-object", f"memory-backend-memfd,id=memory,size={self._memory}M,share=on"),
            *("-chardev", f"socket,id=files,path={self._socket}"),
            *("-device", "vhost-user-fs-pci,chardev=files,tag=machine"),
            *("-serial", f"file:{self._console}", "-serial", "stdio", "-serial", f"file:{self._status}"),
            *("-kernel", str(self._kernel.image), "-initrd", str(self._initramfs)),
            *("-append", " ".join([*_ARGUMENTS, *arguments])),
        ]

    def _failure(self, problem: str) -> LabError:
        console = self._console.read_text(encoding="utf-8", errors="replace") if self._console.exists() else ""
        return LabError(
            "\n  ".join([f"the virtual machine failed: {problem}; its console:", *console.splitlines()[-30:]])
        )
