"""Debian's kernels in QEMU, for what this machine's own kernel has not: WireGuard, or an age.

A virtual machine has the file system of the machine that it runs on, to read; what it writes is gone with it. So a
command is run under another kernel with the checkout, its .venv and the machine's tools, and needs no image.
"""
