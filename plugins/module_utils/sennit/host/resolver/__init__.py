# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who owns the resolver of this host, and how it is made to ask the stub: each owner in its own way, and back again.

detect.py finds the owner; resolved.py, networkmanager.py, resolvconf.py and file.py are the ways; record.py remembers
what is to be undone, also over a crash; reconcile.py puts them together, in a child process; host.py is what the agent
sees of it, and watch.py notices when somebody else changed something.
"""
