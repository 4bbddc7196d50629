/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The way in: datagrams to packets, opened in place, checked against replay (RFC 6479) and for their inner source; see
 * replay.py and inbound.py.
 */

#include <stdlib.h>

#include "batch.h"

EXPORT struct opener *batch_opener_new(const uint8_t *key, uint32_t index)
{
    struct opener *opener = calloc(1, sizeof *opener);
    if (!opener)
        return NULL;
    opener->index = index;
    opener->cipher = cipher_new(key, 0);
    if (!opener->cipher) {
        free(opener);
        return NULL;
    }
    return opener;
}

EXPORT void batch_opener_free(struct opener *opener)
{
    cipher_free(opener->cipher);
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

_Static_assert(sizeof(struct packet) == 8 && sizeof(struct opened) == 40, "as native/__init__.py has them");

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
        if (!cipher_open(opener->cipher, counter, packet, content)) {
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
