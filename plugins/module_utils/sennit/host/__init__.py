# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent changes on its host: addresses, routes and rules.

routes.py says what the difference is, netlink.py makes it so, monitor.py tells when to look again, and tunnel.py is
what the agent sees of them. The resolver is a part of its own, in resolver/.
"""
