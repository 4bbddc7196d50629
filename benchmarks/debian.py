"""Programs of Debian's newest packages, unpacked below build/. What is installed on this machine stays as it is."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / "build" / "peers"
SUITE = "sid"


@functools.cache
def unpacked(package: str) -> tuple[Path, str] | None:
    """Where the newest version of the package is unpacked, and which that is; None where it cannot be had."""
    with tempfile.TemporaryDirectory(prefix="sennit-bench-apt-") as directory:
        for options in (_newest(Path(directory)), []):
            try:
                return _download(package, options, Path(directory))
            except subprocess.CalledProcessError as error:
                print(f"{package}: {error.stderr.strip().splitlines()[-1]}", flush=True)
    return None


def _newest(directory: Path) -> list[str]:
    """Options by which apt knows the newest suite of the mirror that this machine uses, and nothing else."""
    targets = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)").splitlines()
    mirrors = [line.split()[0] for line in targets if line.split()[1:] == ["Debian", "Debian"]]
    if not mirrors:
        return []
    sources = directory / "sources.list"
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources.write_text(f"deb [signed-by={keys}] {mirrors[0]} {SUITE} main\n")
    for name in ("lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    return [
        *("-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=/dev/null"),
        *("-o", f"Dir::State::Lists={directory}/lists", "-o", f"Dir::Cache={directory}/cache"),
        *("-o", "APT::Sandbox::User=root"),
    ]


def _download(package: str, options: list[str], directory: Path) -> tuple[Path, str]:
    if options:
        _run("apt-get", *options, "update", "-q")
    _run("apt-get", *options, "download", "-q", package, cwd=directory)
    archive = next(directory.glob(f"{package}_*.deb"))
    version = _run("dpkg-deb", "-f", str(archive), "Version").strip()
    place = PEERS / f"{package}-{version}"
    place.mkdir(parents=True, exist_ok=True)
    _run("dpkg-deb", "-x", str(archive), str(place))
    return place, version


def _run(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout
