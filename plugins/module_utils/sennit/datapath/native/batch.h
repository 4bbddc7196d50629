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
 * and the loops that call these one after the other, as long as there is nothing to decide:
 *
 *     batch_outflow  TUN -> UDP, for destinations that Python has told the way of
 *     batch_inflow   UDP -> TUN, for keypairs that Python has told of
 *
 * It holds no policy: sessions, peers, and events are Python's, and every function here does byte for byte what the
 * Python of the same name does (segment.py, coalesce.py, checksum.py, replay.py, outbound.py, inbound.py). Numbers that
 * Python and C share lie in structs, which native/__init__.py names once more.
 */

#ifndef BATCH_H
#define BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

#define EXPORT __attribute__((visibility("default")))

#define ABI 3

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
enum { MAX_ADDRESS = 28, MAX_PKTINFO = 20 }; /* struct sockaddr_in6, in6_pktinfo */

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

/* Frames that follow each other and have one destination. */
struct run {
    uint32_t first;
    uint32_t frames;
    uint32_t packets;
    uint32_t room; /* bytes that all of them take, sealed, at most */
    uint8_t destination[16];
    uint32_t version;
};

struct intake {
    uint32_t frames;
    uint32_t runs;
    uint32_t malformed;
    uint32_t packets;
    int32_t error; /* errno that ended the reading, 0 when the budget did */
};

/* Datagrams that one call with UDP_SEGMENT can carry: all of `size` bytes, but for a shorter last one. */
struct piece {
    uint32_t offset;
    uint32_t length;
    uint32_t size;
    uint32_t count;
};

struct sealed {
    uint32_t length;
    uint32_t pieces;
    uint32_t content; /* bytes inside, with their padding */
};

/* An endpoint and our own address there, as sendmsg and recvmsg have them. */
struct origin {
    uint32_t address_length;
    int32_t pktinfo_level;
    int32_t pktinfo_type;
    uint32_t pktinfo_length; /* 0: the host chooses */
    uint8_t address[MAX_ADDRESS];
    uint8_t pktinfo[MAX_PKTINFO];
};

/* The sending side of a keypair. What comes before `cipher` Python reads and writes, too. */
struct sealer {
    uint64_t counter; /* of the next packet */
    uint64_t packets; /* sent by batch_outflow since Python has looked, */
    uint64_t bytes;   /* in these datagrams, */
    double at;        /* the last of them then */
    double expires_at;
    uint32_t index;
    uint32_t mtu;
    uint32_t below; /* datagrams of this size and larger are not sent joined */
    uint32_t stride; /* of its counters; see queues.py */
    volatile uint64_t *mark; /* NULL: nobody else seals on this keypair */
    struct origin way;
    struct cipher *cipher;
};

/* What was received since Python has looked. */
struct tally {
    uint64_t packets;
    uint64_t bytes; /* of their datagrams */
    uint64_t keepalives;
    uint64_t unauthentic;
    uint64_t replayed;
    uint64_t beyond;
    uint64_t malformed;
    double at; /* the last authentic one */
};

/* An inner source that the peer may send from. */
struct known {
    uint32_t version; /* 0: nothing known here */
    uint8_t source[16];
};

/* The receiving side of a keypair. What comes before `cipher` Python reads and writes, too. */
struct opener {
    struct tally tally; /* by batch_inflow */
    double expires_at;
    struct origin origin; /* of packets that batch_inflow takes */
    struct cipher *cipher;
    uint32_t index;
    uint32_t generation; /* of allowed IPs that `known` is from */
    uint64_t next;       /* above the newest counter seen */
    uint64_t words[WINDOW_WORDS];
    struct known known[KNOWN];
};

struct opened {
    uint32_t end; /* where in the arena the run ends */
    uint32_t packets;
    uint32_t keepalives;
    uint32_t bytes; /* of the datagrams of these packets */
    uint32_t unauthentic;
    uint32_t replayed;
    uint32_t beyond;
    uint32_t malformed;
    uint32_t count;   /* of entries in `packets` now */
    uint32_t unknown; /* entries whose source Python has to look up */
};

/* Packets of one stream, each starting where the one before it ends; or a single packet that is joined to nothing. */
struct joined {
    uint32_t first; /* number of the first packet; the others by `next` */
    uint32_t last;
    uint32_t packets;
    uint32_t total;
    uint32_t headers;
    uint32_t size;
    uint32_t expected; /* sequence number */
    uint32_t balance;
    uint32_t wrong; /* of more than one: 0 where the checksums, added up, are right */
    uint8_t protocol;
    uint8_t ip;
    uint8_t closed;
    uint8_t reachable; /* it may still be appended to */
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
/* Of such sums, by all but UDP. */
uint32_t checksum(uint64_t sum);
/* UDP reads 0 as "no checksum"; 65535 is as good. */
uint32_t checksum_not_0(uint64_t sum);

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
/* With a key of 32 bytes and a nonce for this once, over associated data. */
int cipher_seal_with(struct cipher *cipher, const uint8_t *key, const uint8_t *nonce, const uint8_t *associated,
                     uint32_t associated_length, uint8_t *data, uint32_t length);

void batch_read(int fd, uint8_t *arena, uint32_t size, uint32_t budget, struct frame *frames, struct run *runs,
                struct intake *in);
int batch_ready(struct sealer *sealer, uint32_t packets);
int batch_seal(struct sealer *sealer, const uint8_t *arena, const struct frame *frames, uint32_t count, uint8_t *out,
               struct piece *pieces, struct sealed *result);
void batch_open(struct opener *opener, uint8_t *arena, uint32_t at, uint32_t end, uint32_t size, uint32_t generation,
                struct packet *packets, uint32_t count, uint32_t *unknown, struct opened *result);
uint32_t batch_write(int fd, const uint8_t *arena, const struct packet *packets, uint32_t count, int udp,
                     uint32_t *next, struct joined *queue);

#endif
