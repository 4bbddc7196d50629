"""A lab of real hosts on one machine.

cli.py       the command line
lab.py       a whole lab: up, down, reboot, and where its state is kept
topology.py  what the user asked for: networks, routers and hosts, checked
rootfs.py    one Debian file system a suite, built once and kept
network.py   namespaces, bridges and cables, none of them in the machine's own namespace
nat.py       what a router that translates addresses does to packets
machine.py   one host: its overlay, and the supervisor that boots it and boots it again
cgroup.py, mounts.py, limits.py, commands.py   what these need of the machine
"""
