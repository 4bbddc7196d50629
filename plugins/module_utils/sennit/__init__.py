# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Sennit agent: one Python package, installed on hosts as it stands here."""

from __future__ import annotations

__version__ = "0.1.0"
