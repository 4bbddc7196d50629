"""The machine's own sources of Debian packages, for another suite than its own."""

from __future__ import annotations

import re
from pathlib import Path

from .commands import run
from .errors import LabError


def sources(suite: str) -> list[str]:
    """Lines of a sources.list. Raises LabError when the machine has no source that another suite could come from.

    Read from APT itself, which knows both formats of its files. A machine's other sources are left out.
    """
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    here = release.group(1) if release else "an unknown release"
    # The release, its updates and its security updates; backports and the like are not what a server has.
    wanted = {here: suite, f"{here}-updates": f"{suite}-updates", f"{here}-security": f"{suite}-security"}
    found: dict[str, str] = {}
    for line in run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)").splitlines():
        uri, name, component = line.split(" ")
        if component == "main" and name in wanted:
            found.setdefault(wanted[name], f"deb {uri} {wanted[name]} main")
    if suite not in found:
        raise LabError(f"APT on this machine has no source of Debian packages for {here} to take {suite} from")
    return list(found.values())
