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
 *
 * libcrypto is not linked: Python opens the one that the host has and passes its functions. So one build for an
 * architecture fits every distribution, and neither libcrypto's headers nor its version matter to the build.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

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

/* --- numbers in memory */

static uint32_t be16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

static uint32_t be32(const uint8_t *at) { return be16(at) << 16 | be16(at + 2); }

static void put_be16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put_be32(uint8_t *at, uint32_t value)
{
    put_be16(at, value >> 16);
    put_be16(at + 2, value & 0xffff);
}

static uint32_t native16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, 2);
    return value;
}

static uint32_t le32(const uint8_t *at)
{
    return (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

static uint64_t le64(const uint8_t *at) { return (uint64_t)le32(at + 4) << 32 | le32(at); }

static void put_le32(uint8_t *at, uint32_t value)
{
    for (int byte = 0; byte < 4; byte++)
        at[byte] = (uint8_t)(value >> 8 * byte);
}

static void put_le64(uint8_t *at, uint64_t value)
{
    put_le32(at, (uint32_t)value);
    put_le32(at + 4, (uint32_t)(value >> 32));
}

/* --- the Internet checksum (RFC 1071; see checksum.py) */

/* A number below 65535 that is, modulo 65535, the sum of the big-endian words; an odd length is padded. */
static uint32_t words_sum(const uint8_t *data, size_t length)
{
    /* Words of the machine's own byte order, of 32 bits in sums of 64: byte order only multiplies the sum by 256. */
    uint64_t sums[4] = {0, 0, 0, 0};
    uint64_t sum = 0;
    while (length >= 16) {
        uint32_t words[4];
        memcpy(words, data, 16);
        for (int lane = 0; lane < 4; lane++)
            sums[lane] += words[lane];
        data += 16;
        length -= 16;
    }
    for (int lane = 0; lane < 4; lane++)
        sum += sums[lane] % 65535;
    while (length >= 2) {
        sum += native16(data);
        data += 2;
        length -= 2;
    }
    if (length) {
        uint8_t last[2] = {data[0], 0};
        sum += native16(last);
    }
    sum %= 65535;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    sum = sum * 256 % 65535;
#endif
    return (uint32_t)sum;
}

/* Never 0, which UDP would read as "no checksum"; elsewhere 65535 is as good as 0. */
static uint32_t checksum(uint64_t sum) { return 65535 - (uint32_t)(sum % 65535); }

/* --- segmentation (see segment.py) */

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

/* Returns 0 for a frame that does not hold what its header says. */
static int understand(const uint8_t *frame, uint32_t frame_length, struct cut *cut)
{
    if (frame_length < VNET + 20)
        return 0;
    const uint32_t flags = frame[0], gso_type = frame[1], start = native16(frame + 6), offset = native16(frame + 8);
    const uint8_t *packet = frame + VNET;
    cut->packet = packet;
    cut->length = frame_length - VNET;
    cut->version = packet[0] >> 4;
    cut->transport = start;
    cut->count = 1;
    const uint32_t shortest = cut->version == 4 ? 20 : cut->version == 6 ? 40 : 65536;
    if (gso_type == GSO_NONE) {
        cut->kind = flags & NEEDS_CSUM ? COMPLETE : PLAIN;
        cut->field = start + offset;
        return cut->kind == PLAIN || (start >= shortest && cut->field + 2 <= cut->length);
    }
    /* The transport header starts where its checksum does. hdr_len is not to be trusted: in a packet that was forwarded
     * it may be the length of the whole first segment. */
    const uint32_t type = gso_type & ~(uint32_t)GSO_ECN, size = native16(frame + 4);
    if (!(flags & NEEDS_CSUM) || !size || start < shortest || start % 2)
        return 0;
    const uint8_t *transport = packet + start;
    uint32_t header;
    if (type == (cut->version == 4 ? GSO_TCPV4 : GSO_TCPV6)) {
        if (cut->length < start + 20)
            return 0;
        header = (uint32_t)(transport[12] >> 4) * 4;
        if (header < 20 || cut->length <= start + header)
            return 0;
        cut->kind = CUT_TCP;
        cut->field = start + TCP_CHECKSUM;
    } else if (type == GSO_UDP_L4) {
        header = UDP_HEADER;
        if (cut->length <= start + header)
            return 0;
        cut->kind = CUT_UDP;
        cut->field = start + UDP_CHECKSUM;
    } else {
        return 0;
    }
    cut->headers = start + header;
    cut->size = size;
    cut->count = (cut->length - cut->headers + size - 1) / size;
    /* The checksum field holds the sum of the pseudo-header, in which the length is that of the whole. What varies
     * between segments is taken out: sequence number, flags, checksum; in UDP, length and checksum. */
    cut->constant = be16(packet + cut->field) + 65535u * 2 - (cut->length - start);
    if (cut->kind == CUT_TCP) {
        uint8_t fixed[60];
        memcpy(fixed, transport, header);
        memset(fixed + 4, 0, 4);
        fixed[13] = 0;
        memset(fixed + TCP_CHECKSUM, 0, 2);
        cut->constant += words_sum(fixed, header);
    } else {
        cut->constant += words_sum(transport, 4);
    }
    if (cut->version == 4)
        /* All but total length, identification and checksum; whatever lies between is of an even length. */
        cut->ip_sum = (uint32_t)be16(packet) + words_sum(packet + 6, 4) + words_sum(packet + 12, start - 12);
    return 1;
}

static uint32_t longest(const struct cut *cut)
{
    return cut->count == 1 ? cut->length : cut->headers + cut->size;
}

/* Writes segment n; returns its length. */
static uint32_t segment(const struct cut *cut, uint32_t n, uint8_t *out)
{
    const uint8_t *packet = cut->packet;
    if (cut->kind == PLAIN || cut->kind == COMPLETE) {
        memcpy(out, packet, cut->length);
        if (cut->kind == COMPLETE) {
            const uint32_t start = cut->transport;
            put_be16(out + cut->field, checksum(words_sum(packet + start, cut->length - start)));
        }
        return cut->length;
    }
    const uint32_t from = cut->headers + n * cut->size, left = cut->length - from;
    const uint32_t payload = left < cut->size ? left : cut->size;
    const uint32_t start = cut->transport, length = cut->headers - start + payload;
    uint8_t *transport = out + start;
    memcpy(out, packet, cut->headers);
    memcpy(out + cut->headers, packet + from, payload);
    uint64_t sum = cut->constant + words_sum(out + cut->headers, payload);
    if (cut->kind == CUT_TCP) {
        const uint32_t sequence = be32(transport + 4) + n * cut->size;
        /* As tcp_gso_segment of the kernel: FIN and PSH only on the last one, CWR only on the first. */
        uint32_t flags = transport[13];
        if (n)
            flags &= ~(uint32_t)CWR;
        if (n + 1 < cut->count)
            flags &= ~(uint32_t)FIN_PSH;
        put_be32(transport + 4, sequence);
        transport[13] = (uint8_t)flags;
        sum += (uint64_t)length + sequence + flags;
    } else {
        put_be16(transport + 4, length);
        sum += 2 * length; /* in the pseudo-header and in the header */
    }
    put_be16(out + cut->field, checksum(sum));
    if (cut->version == 4) {
        const uint32_t identification = (be16(packet + 4) + n) & 0xffff, total = start + length;
        put_be16(out + 2, total);
        put_be16(out + 4, identification);
        put_be16(out + 10, checksum((uint64_t)cut->ip_sum + total + identification));
    } else {
        put_be16(out + 4, start - 40 + length);
    }
    return start + length;
}

/* --- ChaCha20-Poly1305, by libcrypto's EVP */

struct crypto {
    const void *(*cipher)(void); /* EVP_chacha20_poly1305 */
    void *(*new)(void);          /* EVP_CIPHER_CTX_new */
    void (*free)(void *);
    int (*init)(void *, const void *, void *, const uint8_t *, const uint8_t *, int); /* EVP_CipherInit_ex */
    int (*update)(void *, uint8_t *, int *, const uint8_t *, int);
    int (*final)(void *, uint8_t *, int *);
    int (*control)(void *, int, int, void *);
};
enum { AEAD_GET_TAG = 0x10, AEAD_SET_TAG = 0x11 };

static struct crypto crypto;

EXPORT int batch_abi(void) { return ABI; }

EXPORT void batch_use(const struct crypto *functions) { crypto = *functions; }

static void *cipher_new(const uint8_t *key, int seals)
{
    void *context = crypto.new();
    if (context && crypto.init(context, crypto.cipher(), NULL, key, NULL, seals) != 1) {
        crypto.free(context);
        context = NULL;
    }
    return context;
}

/* The nonce is four zero bytes and the counter (whitepaper section 5.4.6). It is all that is set anew. */
static int set_nonce(void *context, uint64_t counter)
{
    uint8_t nonce[NONCE] = {0};
    put_le64(nonce + 4, counter);
    return crypto.init(context, NULL, NULL, NULL, nonce, -1) == 1;
}

/* In place; the tag follows. */
static int encrypt(void *context, uint64_t counter, uint8_t *data, uint32_t length)
{
    int done = 0;
    return set_nonce(context, counter) && (!length || crypto.update(context, data, &done, data, (int)length) == 1) &&
           crypto.final(context, data + length, &done) == 1 &&
           crypto.control(context, AEAD_GET_TAG, TAG, data + length) == 1;
}

static int decrypt(void *context, uint64_t counter, uint8_t *data, uint32_t length)
{
    int done = 0;
    return set_nonce(context, counter) && crypto.control(context, AEAD_SET_TAG, TAG, data + length) == 1 &&
           (!length || crypto.update(context, data, &done, data, (int)length) == 1) &&
           crypto.final(context, data + length, &done) == 1;
}

/* --- out: TUN to datagrams */

struct frame {
    uint32_t offset;
    uint32_t length; /* with its vnet header */
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

static uint32_t room(const struct cut *cut) { return cut->count * (longest(cut) + OVERHEAD + PADDING - 1); }

/* Appends a frame to the runs. Returns 0 when it is malformed. */
static int append(const uint8_t *arena, struct frame frame, struct frame *frames, struct run *runs, struct intake *in)
{
    struct cut cut;
    if (!understand(arena + frame.offset, frame.length, &cut))
        return 0;
    const uint8_t *packet = cut.packet;
    if (cut.version != 4 && (cut.version != 6 || cut.length < 40))
        return 0;
    const uint32_t version = (uint32_t)cut.version, length = version == 4 ? 4 : 16;
    const uint8_t *destination = packet + (version == 4 ? 16 : 24);
    struct run *run = in->runs ? &runs[in->runs - 1] : NULL;
    if (!run || run->version != version || memcmp(run->destination, destination, length) != 0) {
        run = &runs[in->runs++];
        memset(run, 0, sizeof *run);
        run->first = in->frames;
        run->version = version;
        memcpy(run->destination, destination, length);
    }
    frames[in->frames++] = frame;
    run->frames++;
    run->packets += cut.count;
    run->room += room(&cut);
    in->packets += cut.count;
    return 1;
}

/*
 * Reads frames until there are none, until they hold `budget` packets, or until no other would fit. `frames` and `runs`
 * have room for `budget` each.
 */
EXPORT void batch_read(int fd, uint8_t *arena, uint32_t size, uint32_t budget, struct frame *frames, struct run *runs,
                       struct intake *in)
{
    uint32_t at = 0;
    memset(in, 0, sizeof *in);
    while (in->packets + in->malformed < budget && size - at >= MAX_FRAME) {
        const ssize_t length = read(fd, arena + at, MAX_FRAME);
        if (length <= 0) {
            in->error = length < 0 ? errno : EIO;
            return;
        }
        const struct frame frame = {at, (uint32_t)length};
        if (append(arena, frame, frames, runs, in))
            at += ((uint32_t)length + 15) & ~15u;
        else
            in->malformed++;
    }
}

struct sealer {
    void *context;
    uint32_t index;
    uint32_t mtu;
};

EXPORT struct sealer *batch_sealer_new(const uint8_t *key, uint32_t index, uint32_t mtu)
{
    struct sealer *sealer = malloc(sizeof *sealer);
    if (!sealer)
        return NULL;
    *sealer = (struct sealer){cipher_new(key, 1), index, mtu};
    if (!sealer->context) {
        free(sealer);
        return NULL;
    }
    return sealer;
}

EXPORT void batch_sealer_free(struct sealer *sealer)
{
    crypto.free(sealer->context);
    free(sealer);
}

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

static void add_to_pieces(struct piece *pieces, struct sealed *out, uint32_t size)
{
    struct piece *last = out->pieces ? &pieces[out->pieces - 1] : NULL;
    const uint32_t most = UDP_MAX_PAYLOAD / (last ? last->size : 1);
    if (last && size <= last->size && last->length == last->size * last->count && last->count < UDP_MAX_SEGMENTS &&
        last->count < most) {
        last->length += size;
        last->count++;
    } else {
        pieces[out->pieces++] = (struct piece){out->length, size, size, 1};
    }
    out->length += size;
}

/*
 * Seals the packets of well-formed frames under counters from `counter` on. `out` has the room that the run says,
 * `pieces` one for each packet. Returns 0 when libcrypto fails.
 */
EXPORT int batch_seal(const struct sealer *sealer, uint64_t counter, const uint8_t *arena, const struct frame *frames,
                      uint32_t count, uint8_t *out, struct piece *pieces, struct sealed *result)
{
    memset(result, 0, sizeof *result);
    for (uint32_t n = 0; n < count; n++) {
        struct cut cut = {.packet = arena + frames[n].offset + VNET, .length = frames[n].length - VNET, .count = 1};
        /* A packet that is complete may be anything: a keepalive is empty. */
        const uint8_t *frame = arena + frames[n].offset;
        if ((frame[0] & NEEDS_CSUM || frame[1]) && !understand(frame, frames[n].length, &cut))
            return 0;
        for (uint32_t which = 0; which < cut.count; which++) {
            uint8_t *datagram = out + result->length, *packet = datagram + HEADER;
            const uint32_t length = segment(&cut, which, packet);
            uint32_t padding = 0;
            if (length < sealer->mtu) {
                padding = -length % PADDING;
                if (padding > sealer->mtu - length)
                    padding = sealer->mtu - length;
            }
            memset(packet + length, 0, padding);
            put_le32(datagram, TRANSPORT);
            put_le32(datagram + 4, sealer->index);
            put_le64(datagram + 8, counter);
            if (!encrypt(sealer->context, counter, packet, length + padding))
                return 0;
            counter++;
            result->content += length + padding;
            add_to_pieces(pieces, result, length + padding + OVERHEAD);
        }
    }
    return 1;
}

/* --- in: datagrams to packets */

/* An inner source that the peer may send from. */
struct known {
    uint32_t version; /* 0: nothing known here */
    uint8_t source[16];
};

struct opener {
    void *context;
    uint32_t index;
    uint32_t generation; /* of allowed IPs that `known` is from */
    uint64_t next;       /* above the newest counter seen */
    uint64_t words[WINDOW_WORDS];
    struct known known[KNOWN];
};

EXPORT struct opener *batch_opener_new(const uint8_t *key, uint32_t index)
{
    struct opener *opener = calloc(1, sizeof *opener);
    if (!opener)
        return NULL;
    opener->index = index;
    opener->context = cipher_new(key, 0);
    if (!opener->context) {
        free(opener);
        return NULL;
    }
    return opener;
}

EXPORT void batch_opener_free(struct opener *opener)
{
    crypto.free(opener->context);
    free(opener);
}

/* See replay.py: a ring of words, of which the one that holds the newest counter is the head. */
static int accept_counter(struct opener *opener, uint64_t counter)
{
    const uint64_t word = counter >> 6, bit = UINT64_C(1) << (counter & 63);
    if (counter >= opener->next) {
        uint64_t stale = opener->next ? ((opener->next - 1) >> 6) + 1 : 0;
        if (word >= WINDOW_WORDS && stale < word - (WINDOW_WORDS - 1))
            stale = word - (WINDOW_WORDS - 1);
        for (; stale <= word; stale++)
            opener->words[stale % WINDOW_WORDS] = 0;
        opener->next = counter + 1;
    } else if (opener->next - 1 - counter > REPLAY_WINDOW) {
        return 0;
    }
    uint64_t *seen = &opener->words[word % WINDOW_WORDS];
    if (*seen & bit)
        return 0;
    *seen |= bit;
    return 1;
}

static struct known *place(struct opener *opener, uint32_t version, const uint8_t *source)
{
    uint32_t hash = 0;
    for (uint32_t at = 0; at < (version == 4 ? 4u : 16u); at += 4)
        hash = (hash ^ le32(source + at)) * 0x9e3779b1u;
    return &opener->known[(hash >> 16) % KNOWN];
}

static int is_known(struct opener *opener, const uint8_t *packet)
{
    const uint32_t version = packet[0] >> 4;
    const uint8_t *source = packet + (version == 4 ? 12 : 8);
    const struct known *here = place(opener, version, source);
    return here->version == version && memcmp(here->source, source, version == 4 ? 4 : 16) == 0;
}

/* The packet's source is allowed on this keypair, in this generation. */
EXPORT void batch_know(struct opener *opener, const uint8_t *packet)
{
    const uint32_t version = packet[0] >> 4;
    const uint8_t *source = packet + (version == 4 ? 12 : 8);
    struct known *here = place(opener, version, source);
    here->version = version;
    memcpy(here->source, source, version == 4 ? 4 : 16);
}

struct packet {
    uint32_t offset;
    uint32_t length; /* 0: dropped */
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

/* The length of the IP packet within, 0 when there is none. */
static uint32_t inner_length(const uint8_t *packet, uint32_t length)
{
    uint32_t shortest, own;
    if (packet[0] >> 4 == 4 && length >= 20) {
        own = be16(packet + 2);
        shortest = 20;
    } else if (packet[0] >> 4 == 6 && length >= 40) {
        own = be16(packet + 4) + 40;
        shortest = 40;
    } else {
        return 0;
    }
    return shortest <= own && own <= length ? own : 0;
}

/*
 * Opens, in place, the datagrams from `at` on, each of `size` bytes but for a shorter last one, as long as they are of
 * the opener's keypair. Appends to `packets`, and to `unknown` the numbers of those whose source is not known. Each
 * change of allowed IPs makes a new generation.
 */
EXPORT void batch_open(struct opener *opener, uint8_t *arena, uint32_t at, uint32_t end, uint32_t size,
                       uint32_t generation, struct packet *packets, uint32_t count, uint32_t *unknown,
                       struct opened *result)
{
    memset(result, 0, sizeof *result);
    if (opener->generation != generation) {
        opener->generation = generation;
        memset(opener->known, 0, sizeof opener->known);
    }
    for (; at < end; at += size) {
        const uint32_t length = end - at < size ? end - at : size;
        uint8_t *datagram = arena + at, *packet = datagram + HEADER;
        if (length < OVERHEAD || le32(datagram) != TRANSPORT || le32(datagram + 4) != opener->index)
            break;
        const uint64_t counter = le64(datagram + 8);
        const uint32_t content = length - OVERHEAD;
        if (!decrypt(opener->context, counter, packet, content)) {
            result->unauthentic++;
            continue;
        }
        if (counter >= REJECT_AFTER_MESSAGES) {
            result->beyond++;
            continue;
        }
        if (!accept_counter(opener, counter)) {
            result->replayed++;
            continue;
        }
        if (!content) {
            result->keepalives++;
            continue;
        }
        result->packets++;
        result->bytes += length;
        const uint32_t inner = inner_length(packet, content);
        if (!inner) {
            result->malformed++;
            continue;
        }
        if (!is_known(opener, packet))
            unknown[result->unknown++] = count;
        packets[count++] = (struct packet){at + HEADER, inner};
    }
    result->end = at < end ? at : end;
    result->count = count;
}

/* --- coalescing (see coalesce.py) */

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
    uint8_t protocol;
    uint8_t ip;
    uint8_t closed;
    uint8_t intact;
    uint8_t reachable; /* it may still be appended to */
};

_Static_assert(sizeof(struct frame) == 8 && sizeof(struct run) == 36 && sizeof(struct intake) == 20 &&
                   sizeof(struct piece) == 16 && sizeof(struct sealed) == 12 && sizeof(struct packet) == 8 &&
                   sizeof(struct opened) == 40 && sizeof(struct joined) == 40,
               "as native/__init__.py has them");

struct writer {
    const uint8_t *arena;
    const struct packet *packets;
    uint32_t *next;
    struct joined *queue;
    uint32_t length;
};

/* Length of the IP header if this is TCP or UDP without IP options, extension headers or fragmentation, else 0. */
static uint32_t plain_ip(const uint8_t *packet, uint32_t length, uint8_t *protocol)
{
    uint32_t ip;
    if (length >= 28 && packet[0] == 0x45) {
        if (packet[6] & 0x3f || packet[7])
            return 0;
        ip = 20;
        *protocol = packet[9];
    } else if (length >= 48 && packet[0] >> 4 == 6) {
        ip = 40;
        *protocol = packet[6];
    } else {
        return 0;
    }
    if (*protocol == TCP)
        return length >= ip + 20 ? ip : 0;
    return *protocol == UDP ? ip : 0;
}

/* False also where TCP or UDP might hide behind an extension header. */
static int surely_neither(const uint8_t *packet, uint32_t length)
{
    if (length < 20)
        return 0;
    return packet[0] >> 4 == 6 ? packet[6] == ICMPV6 : packet[9] != TCP && packet[9] != UDP;
}

static int same_flow(const uint8_t *one, const uint8_t *two, uint32_t ip)
{
    return ip == 20 ? memcmp(one + 12, two + 12, 12) == 0 : memcmp(one + 8, two + 8, 36) == 0;
}

/* Whether the headers differ in nothing but what may differ between the segments of one super-packet. */
static int same_headers(const uint8_t *one, const uint8_t *two, const struct joined *joined)
{
    const uint32_t ip = joined->ip;
    if (ip == 20) {
        /* not total length, identification and checksum */
        if (memcmp(one, two, 2) != 0 || memcmp(one + 6, two + 6, 4) != 0 || memcmp(one + 12, two + 12, 12) != 0)
            return 0;
    } else if (memcmp(one, two, 4) != 0 || memcmp(one + 6, two + 6, 38) != 0) {
        return 0;
    }
    if (joined->protocol == UDP)
        return 1;
    /* not sequence number, PSH and checksum */
    one += ip;
    two += ip;
    return memcmp(one + 8, two + 8, 5) == 0 && ((one[13] ^ two[13]) & ~PSH) == 0 && memcmp(one + 14, two + 14, 2) == 0 &&
           memcmp(one + 18, two + 18, joined->headers - ip - 18) == 0;
}

/* What the sum of a whole packet lacks to that of the transport's with its pseudo-header. In IPv4 the header by itself
 * sums up to zero, in IPv6 it holds all of the pseudo-header. */
static uint32_t balance(const uint8_t *packet, uint32_t ip, uint32_t protocol)
{
    if (ip == 20)
        return (words_sum(packet + 12, 8) + protocol + 65535 - 20) % 65535;
    return (protocol + 3 * 65535 - words_sum(packet, 4) - be16(packet + 6)) % 65535;
}

static int is_intact(const struct joined *joined, const uint8_t *packet, uint32_t length)
{
    return (words_sum(packet, length) + joined->balance + (joined->ip == 20 ? length : 0)) % 65535 == 0;
}

static int try_append(struct writer *writer, struct joined *joined, uint32_t n)
{
    const struct packet *entry = &writer->packets[n];
    const uint8_t *packet = writer->arena + entry->offset, *first = writer->arena + writer->packets[joined->first].offset;
    if (joined->closed || entry->length <= joined->headers)
        return 0;
    const uint32_t size = entry->length - joined->headers;
    if (size > joined->size || joined->total + size > MAX_PACKET || !same_headers(packet, first, joined))
        return 0;
    if (joined->protocol == TCP ? be32(packet + joined->ip + 4) != joined->expected
                                : be16(packet + joined->ip + 4) != entry->length - joined->ip ||
                                      !be16(packet + joined->ip + UDP_CHECKSUM))
        return 0;
    if (joined->packets == (joined->protocol == TCP ? MAX_TCP_SEGMENTS : MAX_UDP_SEGMENTS))
        return 0;
    if (!is_intact(joined, packet, entry->length))
        return 0;
    if (!joined->intact) {
        joined->intact = (uint8_t)is_intact(joined, first, writer->packets[joined->first].length);
        joined->closed = !joined->intact;
        if (joined->closed)
            return 0;
    }
    writer->next[joined->last] = n;
    joined->last = n;
    joined->packets++;
    joined->total += size;
    joined->expected += size;
    if (size < joined->size || (joined->protocol == TCP && packet[joined->ip + 13] & PSH))
        joined->closed = 1;
    return 1;
}

static void enqueue(struct writer *writer, uint32_t n, int udp)
{
    const struct packet *entry = &writer->packets[n];
    const uint8_t *packet = writer->arena + entry->offset;
    uint8_t protocol = 0;
    const uint32_t ip = plain_ip(packet, entry->length, &protocol);
    struct joined *before = NULL;
    if (!ip && !surely_neither(packet, entry->length))
        /* It may belong to any stream: what comes later stays behind it. */
        for (uint32_t each = 0; each < writer->length; each++)
            writer->queue[each].reachable = 0;
    if (ip)
        for (uint32_t each = writer->length; each-- && !before;) {
            struct joined *candidate = &writer->queue[each];
            if (candidate->reachable && candidate->ip == ip && candidate->protocol == protocol &&
                same_flow(writer->arena + writer->packets[candidate->first].offset, packet, ip))
                before = candidate;
        }
    if (before && try_append(writer, before, n))
        return;
    if (before)
        before->reachable = 0;
    struct joined *joined = &writer->queue[writer->length++];
    memset(joined, 0, sizeof *joined);
    joined->first = joined->last = n;
    joined->packets = 1;
    if (!ip)
        return;
    if (protocol == TCP) {
        joined->headers = ip + (uint32_t)(packet[ip + 12] >> 4) * 4;
        joined->reachable = (packet[ip + 13] & ~PSH) == ACK && joined->headers >= ip + 20;
    } else {
        joined->headers = ip + UDP_HEADER;
        joined->reachable =
            udp && be16(packet + ip + 4) == entry->length - ip && be16(packet + ip + UDP_CHECKSUM) != 0;
    }
    if (entry->length <= joined->headers)
        joined->reachable = 0;
    if (!joined->reachable)
        return;
    joined->protocol = protocol;
    joined->ip = (uint8_t)ip;
    joined->size = entry->length - joined->headers;
    joined->total = entry->length;
    joined->expected = be32(packet + ip + 4) + joined->size;
    joined->balance = balance(packet, ip, protocol);
    joined->closed = protocol == TCP && packet[ip + 13] & PSH;
}

static int write_joined(const struct writer *writer, const struct joined *joined, int fd)
{
    static const uint8_t plain[VNET];
    struct iovec parts[1 + MAX_TCP_SEGMENTS];
    uint8_t head[VNET + 40 + 60];
    const struct packet *packets = writer->packets;
    const struct packet *first = &packets[joined->first];
    uint32_t count = 1;
    if (joined->packets == 1) {
        parts[0] = (struct iovec){(void *)plain, VNET};
        parts[count++] = (struct iovec){(void *)(writer->arena + first->offset), first->length};
        return writev(fd, parts, (int)count) >= 0;
    }
    const uint32_t ip = joined->ip, total = joined->total, transport = total - ip;
    const int is_tcp = joined->protocol == TCP;
    const uint32_t field = is_tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
    uint8_t *header = head + VNET;
    memcpy(header, writer->arena + first->offset, joined->headers);
    if (ip == 20) {
        put_be16(header + 2, total);
        put_be16(header + 10, 0);
        put_be16(header + 10, checksum(words_sum(header, 20)));
    } else {
        put_be16(header + 4, transport);
    }
    if (is_tcp)
        header[ip + 13] |= writer->arena[packets[joined->last].offset + ip + 13] & PSH;
    else
        put_be16(header + ip + 4, transport);
    const uint32_t addresses = ip == 20 ? words_sum(header + 12, 8) : words_sum(header + 8, 32);
    put_be16(header + ip + field, (addresses + joined->protocol + transport) % 65535);
    const uint16_t numbers[4] = {(uint16_t)joined->headers, (uint16_t)joined->size, (uint16_t)ip, (uint16_t)field};
    head[0] = NEEDS_CSUM;
    head[1] = !is_tcp ? GSO_UDP_L4 : ip == 20 ? GSO_TCPV4 : GSO_TCPV6;
    memcpy(head + 2, numbers, sizeof numbers);
    parts[0] = (struct iovec){head, VNET + joined->headers};
    for (uint32_t n = joined->first;; n = writer->next[n]) {
        const struct packet *each = &packets[n];
        parts[count++] =
            (struct iovec){(void *)(writer->arena + each->offset + joined->headers), each->length - joined->headers};
        if (n == joined->last)
            break;
    }
    return writev(fd, parts, (int)count) >= 0;
}

/*
 * Joins the packets as far as possible and writes them to TUN; datagrams only where `udp` says that the device takes
 * them so. `next` and `queue` have room for `count` each. Returns how many packets the kernel did not take.
 */
EXPORT uint32_t batch_write(int fd, const uint8_t *arena, const struct packet *packets, uint32_t count, int udp,
                            uint32_t *next, struct joined *queue)
{
    struct writer writer = {arena, packets, next, queue, 0};
    uint32_t failed = 0;
    for (uint32_t n = 0; n < count; n++)
        if (packets[n].length)
            enqueue(&writer, n, udp);
    for (uint32_t n = 0; n < writer.length; n++)
        if (!write_joined(&writer, &queue[n], fd))
            failed += queue[n].packets;
    return failed;
}
