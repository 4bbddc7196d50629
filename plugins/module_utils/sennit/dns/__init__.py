# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stub resolver of a node, in a process of its own.

zone.py answers what the map knows, forward.py has nameserver.py ask for the rest, passing.py makes a client's answer
of a nameserver's, listener.py talks to the host's programs, stub.py puts them together, and process.py is what the
agent sees of it.
"""
