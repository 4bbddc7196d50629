# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a netmap gets around without Ansible: beacons hand it on through the tunnel, and a URL may have it.

A node holds one stream to each of its beacons: TCP, at the beacon's mesh address. WireGuard has authenticated both
ends, since a peer can send from nothing but its own addresses; and whoever passes a map on cannot change it, since it
is signed. So there is no other credential.
"""
