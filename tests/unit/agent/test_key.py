"""The private key's file."""

import base64
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sennit.key import PrivateKeyError, ensure_private_key, read_private_key


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "private.key")


def test_is_made_once_with_mode_0600_whatever_the_umask(path):
    mask = os.umask(0)
    try:
        public_key = ensure_private_key(path)
    finally:
        os.umask(mask)
    assert os.stat(path).st_mode & 0o777 == 0o600
    content = Path(path).read_bytes()
    assert len(content) == 45 and content.endswith(b"\n")
    assert ensure_private_key(path) == public_key
    assert Path(path).read_bytes() == content
    assert os.listdir(os.path.dirname(path)) == ["private.key"]


def test_is_a_key_as_wg_makes_them(path):
    public_key = ensure_private_key(path)
    key = read_private_key(path)
    assert key[0] & 7 == 0 and key[31] & 0xC0 == 0x40
    with open(path, "rb") as file:
        shown = subprocess.run(["wg", "pubkey"], stdin=file, capture_output=True, check=True).stdout
    assert shown.strip() == base64.b64encode(public_key)


def test_everybody_who_calls_at_once_gets_the_same_key(path):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: ensure_private_key(path), range(32)))) == 1
    assert os.listdir(os.path.dirname(path)) == ["private.key"]


@pytest.mark.parametrize("content", [b"", b"AAAA\n", b"not base64 at all\n", base64.b64encode(bytes(33)), bytes(4096)])
def test_a_damaged_key_is_never_replaced_nor_shown(path, content):
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
    with pytest.raises(PrivateKeyError) as caught:
        ensure_private_key(path)
    assert str(caught.value) == f"{path}: not a WireGuard private key (base64 of 32 bytes)"
    assert Path(path).read_bytes() == content


def test_a_key_that_others_can_read_is_refused(path):
    ensure_private_key(path)
    os.chmod(path, 0o640)
    with pytest.raises(PrivateKeyError, match=r"with mode 0600, is one of user [0-9]+ with mode 0640"):
        ensure_private_key(path)


def test_links_and_fifos_are_refused(path, tmp_path):
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(PrivateKeyError, match="symbolic link"):
        ensure_private_key(path)
    assert not (tmp_path / "elsewhere").exists()
    os.unlink(path)
    os.mkfifo(path, 0o600)
    with pytest.raises(PrivateKeyError):
        ensure_private_key(path)


def test_without_the_directory_the_file_is_named(tmp_path):
    with pytest.raises(PrivateKeyError, match=r"nowhere/private\.key: No such file"):
        ensure_private_key(str(tmp_path / "nowhere/private.key"))
