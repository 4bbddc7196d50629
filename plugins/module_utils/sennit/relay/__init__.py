# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The relay of a beacon: for two nodes between which nothing direct comes up.

It is a WireGuard endpoint of its own, with which every node holds a session and no address: so the way to each node
stays open, and the relay knows where each is, and that it is it. What one of these nodes sends to the relay and is
meant for another goes on to that one as it came. It is sealed from node to node, and the relay has no key of it.

forwarding.py decides what goes where; recipients.py, routes.py and buckets.py are what it knows and how much it lets
through. It does no I/O and reads no clock. service.py is the process around it, process.py what the agent sees of it.
"""
