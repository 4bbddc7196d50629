/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The native batch core: what costs a call a packet in Python, for a batch of packets in one call.
 *
 *     batch_read    TUN -> frames, in runs for one destination
 *     batch_seal    a run of frames -> segments with checksums, padded, sealed, in one piece for UDP_SEGMENT
 *     batch_open    what UDP_GRO had joined -> opened in place, checked against replay and for its inner source
 *     batch_write   opened packets -> super-packets -> TUN
 *
 * It holds no policy and keeps no time: sessions, peers, counters and events are Python's, and every function here does
 * byte for byte what the Python of the same name does (segment.py, coalesce.py, checksum.py, replay.py, outbound.py,
 * inbound.py). Numbers that Python and C share lie in the structs below, which native/__init__.py names once more.
 */

#ifndef BATCH_H
#define BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

#define EXPORT __attribute__((visibility("default")))

#define ABI 1

enum { VNET = 10, MAX_PACKET = 65535, MAX_FRAME = VNET + MAX_PACKET };
enum { NEEDS_CSUM = 1, GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };
enum { TCP = 6, UDP = 17, ICMPV6 = 58, UDP_HEADER = 8, TCP_CHECKSUM = 16, UDP_CHECKSUM = 6 };
enum { FIN_PSH = 0x09, PSH = 0x08, ACK = 0x10, CWR = 0x80 };
enum { TRANSPORT = 4, HEADER = 16, TAG = 16, OVERHEAD = HEADER + TAG, NONCE = 12, PADDING = 16 };
enum { UDP_MAX_SEGMENTS = 64, UDP_MAX_PAYLOAD = 65535 - 20 - 8 };
enum { MAX_TCP_SEGMENTS = 512, MAX_UDP_SEGMENTS = 64 }; /* of one frame to TUN: writev takes 1,024 parts */
enum { WINDOW_WORDS = 128, REPLAY_WINDOW = 8192 - 64 };
#define REJECT_AFTER_MESSAGES (UINT64_MAX - (UINT64_C(1) << 13))
enum { KNOWN = 32 };

/* A frame in an arena. */
struct frame {
    uint32_t offset;
    uint32_t length; /* with its vnet header */
};

/* An opened packet in an arena. */
struct packet {
    uint32_t offset;
    uint32_t length; /* 0: dropped */
};

enum kind { PLAIN, COMPLETE, CUT_TCP, CUT_UDP };

/* A frame from TUN, understood. Segment n is: the headers, changed as below, and `size` bytes of the payload. */
struct cut {
    const uint8_t *packet;
    uint32_t length;
    enum kind kind;
    int version;
    uint32_t transport; /* offset of the transport header, or of what a checksum covers */
    uint32_t field;     /* offset of the checksum */
    uint32_t headers;   /* length of all headers */
    uint32_t size;
    uint32_t count;
    uint64_t constant; /* the sum of what is the same in all segments */
    uint32_t ip_sum;
};

/* A number below 65535 that is, modulo 65535, the sum of the big-endian words; an odd length is padded. */
uint32_t words_sum(const uint8_t *data, size_t length);
uint32_t checksum(uint64_t sum);

/* Returns 0 for a frame that does not hold what its header says. */
int understand(const uint8_t *frame, uint32_t frame_length, struct cut *cut);
/* Of the longest segment. */
uint32_t longest(const struct cut *cut);
/* Writes segment n; returns its length. */
uint32_t segment(const struct cut *cut, uint32_t n, uint8_t *out);

struct cipher;

struct cipher *cipher_new(const uint8_t *key, int seals);
void cipher_free(struct cipher *cipher);
/* In place; the tag follows. Return 0 when libcrypto fails, or when the tag is wrong. */
int cipher_seal(struct cipher *cipher, uint64_t counter, uint8_t *data, uint32_t length);
int cipher_open(struct cipher *cipher, uint64_t counter, uint8_t *data, uint32_t length);

#endif
