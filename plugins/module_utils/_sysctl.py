# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel parameters that a module sets, now and for every boot, in one file of its own below /etc/sysctl.d.

What a parameter was before its first change is kept in that file, as a comment, so that it can be put back. Keys are
written as in sysctl.d(5): dots part a key, and a slash stands for a dot within a name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

from ansible_collections.sennit.mesh.plugins.module_utils._host import ManagedFile, read_text

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

PROC = "/proc/sys/"
# In the order of sysctl.d(5): a file of the same name in an earlier directory hides the later one.
DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
_SETTING = re.compile(r"^\s*-?\s*([^#;=\s]+)\s*=\s*(.*?)\s*$")
_BEFORE = re.compile(r"^# before: (\S+) = (.*)$")


def parse(text: str) -> dict[str, str]:
    """The settings of a sysctl.d file, the last one of a key."""
    matches = (_SETTING.match(line) for line in text.splitlines())
    return {_canonical(match.group(1)): match.group(2) for match in matches if match}


def read(key: str) -> Optional[str]:
    """The running kernel's value, or None when it has no such parameter."""
    text = read_text(_proc_path(key))
    return text.strip() if text is not None else None


def interfaces(family: str) -> list[str]:
    """The interfaces that have parameters of their own, as they stand in a key; family is "ipv4" or "ipv6"."""
    directory = f"{PROC}net/{family}/conf"
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(name.replace(".", "/") for name in names if name != "all")


def _proc_path(key: str) -> str:
    return PROC + key.translate(str.maketrans("./", "/."))


def _canonical(key: str) -> str:
    """A key as we write it; keys that begin with a slash-parted word are the other way round."""
    separator = re.search(r"[./]", key)
    return key.translate(str.maketrans("./", "/.")) if separator and separator.group() == "/" else key


def _family(key: str) -> str:
    return key[: len("net.ipv4")]


def _side_effects(key: str, before: str) -> dict[str, str]:
    """What the kernel changes along with a parameter, and would not change back along with it (ip-sysctl.rst)."""
    expected: dict[str, str] = {}
    if key == "net.ipv4.ip_forward":
        expected = {f"net.ipv4.conf.{name}.forwarding": before for name in interfaces("ipv4")}
        # A router takes no redirects; the end of routing turns them on, wanted or not.
        expected["net.ipv4.conf.all.accept_redirects"] = "0" if before == "1" else "1"
    elif key == "net.ipv6.conf.all.forwarding":
        expected = {f"net.ipv6.conf.{name}.forwarding": before for name in interfaces("ipv6")}
    live = {name: read(name) for name in expected}
    return {name: value for name, value in live.items() if value is not None and value != expected[name]}


class SysctlFile:
    """One file and the parameters in it. ``differences`` collects what changed (in check mode: would change)."""

    def __init__(self, module: AnsibleModule, path: str, header: str) -> None:
        self.module = module
        self.path = path
        self.header = header
        self.differences: list[dict[str, str]] = []
        self._file = ManagedFile(module, path, 0o644)

    def settings(self) -> dict[str, str]:
        """What the file sets at boot."""
        return parse(read_text(self.path) or "")

    def present(self, wanted: Mapping[str, str]) -> None:
        """Set the parameters, in this order, all or none."""
        live = {key: self._read(key) for key in wanted}
        wrong = {key: value for key, value in wanted.items() if live[key] != value}
        before = self._before()
        for key in wrong:
            # What is on record stays: it is older than a value that somebody has set in the meantime.
            before = {key: live[key], **_side_effects(key, live[key]), **before}
        self._note(live, wrong)
        if not self.module.check_mode:
            self._apply(wrong, live)
        lines = [f"{key} = {value}\n" for key, value in wanted.items()]
        lines += [f"# before: {key} = {before[key]}\n" for key in sorted(before)]
        self._keep(self._file.present(self.header + "".join(lines)))
        self._warn_of_overrides(wanted)

    def absent(self, restore: bool) -> None:
        """Remove the file. With restore, parameters are again as before, unless somebody has changed them since.

        What another file sets, it shall be: that is how the host would come up.
        """
        ours = self.settings()
        before = self._before()
        configured = self._configured_elsewhere()
        targets: dict[str, str] = {}
        if restore:
            # Backwards: what had to be in place first goes last.
            for key in reversed(list(ours)):
                if key in before and read(key) == ours[key]:
                    targets[key] = configured.get(key, before[key])
            families = {_family(key) for key, target in targets.items() if target == before[key]}
            side_effects = [key for key in before if key not in ours and _family(key) in families]
            targets.update({key: before[key] for key in side_effects if read(key) is not None})
        live = {key: self._read(key) for key in targets}
        wrong = {key: value for key, value in targets.items() if live[key] != value}
        self._note(live, wrong)
        if not self.module.check_mode:
            # Side effects last, and whether they look right by now or not: the others are about to disturb them.
            self._apply({key: targets[key] for key in targets if key in wrong or key not in ours}, live)
        self._keep(self._file.absent())

    def _before(self) -> dict[str, str]:
        matches = (_BEFORE.match(line) for line in (read_text(self.path) or "").splitlines())
        return {match.group(1): match.group(2) for match in matches if match}

    def _read(self, key: str) -> str:
        value = read(key)
        if value is None:
            self.module.fail_json(msg=f"this host's kernel has no parameter {key} ({_proc_path(key)})")
        return value

    def _apply(self, wrong: Mapping[str, str], live: Mapping[str, str]) -> None:
        """All or nothing: a parameter that the kernel refuses takes back those set before it."""
        done: list[str] = []
        for key, value in wrong.items():
            try:
                self._write(key, value)
            except OSError as error:
                for earlier in reversed(done):
                    self._write(earlier, live[earlier])
                self.module.fail_json(
                    msg=f"the kernel refused {key} = {value}: {error.strerror} ({_proc_path(key)}; it is {live[key]})."
                    " In a container, the container's own configuration has to set it. Nothing was changed."
                )
            done.append(key)

    def _write(self, key: str, value: str) -> None:
        with open(_proc_path(key), "w", encoding="ascii") as file:
            file.write(value)

    def _note(self, live: Mapping[str, str], wrong: Mapping[str, str]) -> None:
        if wrong:
            self.differences.append(
                {
                    "before_header": "running kernel",
                    "after_header": "running kernel",
                    "before": "".join(f"{key} = {live[key]}\n" for key in wrong),
                    "after": "".join(f"{key} = {value}\n" for key, value in wrong.items()),
                }
            )

    def _keep(self, difference: Optional[dict[str, str]]) -> None:
        if difference is not None:
            self.differences.append(difference)

    def _other_files(self) -> list[str]:
        """The other files that are read at boot, in their order."""
        files: dict[str, str] = {}
        for directory in DIRECTORIES:
            if os.path.isdir(directory):
                for name in os.listdir(directory):
                    files.setdefault(name, os.path.join(directory, name))
        return [files[name] for name in sorted(files) if name.endswith(".conf") and files[name] != self.path]

    def _configured_elsewhere(self) -> dict[str, str]:
        configured: dict[str, str] = {}
        for path in self._other_files():
            configured.update(parse(read_text(path) or ""))
        return configured

    def _warn_of_overrides(self, wanted: Mapping[str, str]) -> None:
        """Another file that is read after ours undoes it at the next boot."""
        for path in self._other_files():
            if os.path.basename(path) < os.path.basename(self.path):
                continue
            for key, value in parse(read_text(path) or "").items():
                if wanted.get(key, value) != value:
                    self.module.warn(f"{path} sets {key} = {value} after {self.path}: it wins at the next boot")
