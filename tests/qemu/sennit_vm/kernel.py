"""Debian's cloud kernels: fetched as packages, unpacked into a cache of their own, never installed."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sennit_lab.commands import run
from sennit_lab.errors import LabError
from sennit_lab.sources import sources

CACHE = Path("/var/cache/sennit-lab")
PACKAGE = "linux-image-cloud-amd64"


@dataclass(frozen=True)
class Kernel:
    """An unpacked package: `root` has boot/ and lib/modules/."""

    root: Path

    @property
    def release(self) -> str:
        return next((self.root / "lib/modules").iterdir()).name

    @property
    def image(self) -> Path:
        return self.root / f"boot/vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.root / "lib/modules" / self.release

    def needed(self, *names: str) -> list[Path]:
        """The files of these modules and of all that they need, in the order in which they are to be loaded."""
        found: dict[Path, None] = {}
        for name in names:
            lines = run("modprobe", "-d", str(self.root), "-S", self.release, "--show-depends", name).splitlines()
            # Of what is built in, there is a line without a file.
            found.update((Path(line.split()[1]), None) for line in lines if line.startswith("insmod "))
        return list(found)


def kernel(suite: str, say: Callable[[str], None]) -> Kernel:
    """The suite's kernel, fetched first if it is not there yet. Raises LabError.

    It is named by a digest of how it is fetched, as the file systems are. Which version that is was decided then.
    """
    path = CACHE / f"kernel-{suite}-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with _locked(CACHE / f"kernel-{suite}.lock"):
            if not path.exists():  # another may have fetched it while this one waited
                say(f"fetching the kernel of {suite}, once ({path})")
                _fetch(suite, path)
    return Kernel(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(suite: str, path: Path) -> None:
    unfinished = path.parent / f"kernel-{suite}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="sennit-vm-") as scratch:
        package = _download(suite, Path(scratch))
        run("dpkg-deb", "--extract", str(package), str(unfinished))
    if not (unfinished / "lib").exists():  # Debian 13 and later have all of it in /usr
        (unfinished / "lib").symlink_to("usr/lib")
    run("depmod", "-b", str(unfinished), Kernel(unfinished).release)
    unfinished.rename(path)


def _download(suite: str, directory: Path) -> Path:
    """The package, by an APT whose state is in the directory alone, verified as APT does."""
    for name in ("lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True)
    (directory / "sources.list").write_text("".join(f"{line}\n" for line in sources(suite)), encoding="utf-8")
    (directory / "status").touch()
    options = {
        "Dir::Etc::SourceList": directory / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": directory,
        "Dir::State::Status": directory / "status",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
    }
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    run("apt-get", *settings, "update")
    # The package is an empty one that depends on that of the newest version.
    depends = run("apt-cache", *settings, "depends", "--important", PACKAGE).split()
    names = [word for word in depends if word.startswith("linux-image-") and word != PACKAGE]
    if not names:
        raise LabError(f"the sources of {suite} have no {PACKAGE}")
    run("apt-get", *settings, "--yes", "--download-only", "--no-install-recommends", "install", names[0])
    return next((directory / "cache/archives").glob(f"{names[0]}_*.deb"))
