# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Structs of batch.h and flow.h that Python and C both read and write."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int32, c_uint8, c_uint32, c_uint64, c_void_p

CHANNELS = 9
MAX_ADDRESS = 28
_ROUTES = 1024
_LANES = 4096


class Origin(ctypes.Structure):
    _fields_ = (
        ("address_length", c_uint32),
        ("pktinfo_level", c_int32),
        ("pktinfo_type", c_int32),
        ("pktinfo_length", c_uint32),
        ("address", c_uint8 * MAX_ADDRESS),
        ("pktinfo", c_uint8 * 20),
    )


class SealerState(ctypes.Structure):
    """struct sealer, without what is C's alone."""

    _fields_ = (
        ("counter", c_uint64),
        ("packets", c_uint64),
        ("bytes", c_uint64),
        ("at", c_double),
        ("expires_at", c_double),
        ("index", c_uint32),
        ("mtu", c_uint32),
        ("below", c_uint32),
        ("stride", c_uint32),
        ("mark", c_void_p),
        ("way", Origin),
    )


class OpenerState(ctypes.Structure):
    """struct opener, without what is C's alone; it begins with its struct tally."""

    _fields_ = (
        ("packets", c_uint64),
        ("bytes", c_uint64),
        ("keepalives", c_uint64),
        ("unauthentic", c_uint64),
        ("replayed", c_uint64),
        ("beyond", c_uint64),
        ("malformed", c_uint64),
        ("at", c_double),
        ("expires_at", c_double),
        ("origin", Origin),
    )


class _Channel(ctypes.Structure):
    _fields_ = (("sent", c_void_p), ("received", c_uint32), ("fd", c_int32))


class _Route(ctypes.Structure):
    _fields_ = (("version", c_uint32), ("destination", c_uint8 * 16), ("sealer", c_void_p))


class OutflowState(ctypes.Structure):
    """struct outflow; `error` is that of its struct intake, `pieces_sealed` of its struct sealed."""

    _fields_ = (
        ("tun", c_int32),
        ("udp", c_int32),
        ("taking", c_int32),
        ("size", c_uint32),
        ("arena", c_void_p),
        ("frames", c_void_p),
        ("runs", c_void_p),
        ("out", c_void_p),
        ("room", c_uint32),
        ("most", c_uint32),
        ("pieces", c_void_p),
        ("channels", _Channel * CHANNELS),
        ("intake", c_uint32 * 4),
        ("error", c_int32),
        ("next", c_uint32),
        ("unsent", c_uint32),
        ("malformed", c_uint32),
        ("worked", c_uint32),
        ("length_sealed", c_uint32),
        ("pieces_sealed", c_uint32),
        ("content_sealed", c_uint32),
        ("sealer", c_void_p),
        ("routes", _Route * _ROUTES),
    )


class GuardState(ctypes.Structure):
    """struct guard, without what is C's alone."""

    _fields_ = (("invalid_mac1", c_uint32), ("cookies", c_uint32), ("unanswered", c_uint32), ("limited", c_uint32))


class InflowState(ctypes.Structure):
    """struct inflow."""

    _fields_ = (
        ("udp", c_int32),
        ("tun", c_int32),
        ("takes_udp", c_int32),
        ("size", c_uint32),
        ("arena", c_void_p),
        ("packets", c_void_p),
        ("unknown", c_void_p),
        ("following", c_void_p),
        ("queue", c_void_p),
        ("channels", _Channel * CHANNELS),
        ("at", c_uint32),
        ("count", c_uint32),
        ("left", c_int32),
        ("generation", c_uint32),
        ("pending", c_uint32),
        ("start", c_uint32),
        ("length", c_uint32),
        ("each", c_uint32),
        ("origin", Origin),
        ("failed", c_uint32),
        ("worked", c_uint32),
        ("urgent", c_uint32),
        ("unknowns", c_uint32),
        ("opener", c_void_p),
        ("guard", c_void_p),
        ("lanes", c_void_p * _LANES),
    )
