/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The way out: frames from TUN, in runs for one destination, to sealed datagrams; see core.py and outbound.py.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "batch.h"

_Static_assert(sizeof(struct frame) == 8 && sizeof(struct run) == 36 && sizeof(struct intake) == 20 &&
                   sizeof(struct piece) == 16 && sizeof(struct sealed) == 12,
               "as native/__init__.py has them");

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

EXPORT struct sealer *batch_sealer_new(const uint8_t *key, uint32_t index, uint32_t mtu)
{
    struct sealer *sealer = malloc(sizeof *sealer);
    if (!sealer)
        return NULL;
    *sealer = (struct sealer){.index = index, .mtu = mtu, .stride = 1, .cipher = cipher_new(key, 1)};
    if (!sealer->cipher) {
        free(sealer);
        return NULL;
    }
    return sealer;
}

EXPORT void batch_sealer_free(struct sealer *sealer)
{
    cipher_free(sealer->cipher);
    free(sealer);
}

/* Of 32 bits at a time: what divides 64 of them is not part of the language on every architecture. */
static uint32_t remainder_of(uint64_t number, uint32_t divisor)
{
    const uint32_t high = (uint32_t)(number >> 32), low = (uint32_t)number;
    return (high % divisor * (UINT32_MAX % divisor + 1) + low % divisor) % divisor;
}

/* Whether so many packets may be sealed; to be asked before they are. */
EXPORT int batch_ready(struct sealer *sealer, uint32_t packets)
{
    if (sealer->mark) {
        const uint64_t mark = *sealer->mark;
        if (sealer->counter < mark) {
            const uint32_t over = remainder_of(mark - sealer->counter, sealer->stride);
            sealer->counter = mark + (over ? sealer->stride - over : 0);
        }
        *sealer->mark = sealer->counter;
    }
    return sealer->counter <= REJECT_AFTER_MESSAGES &&
           (uint64_t)packets * sealer->stride <= REJECT_AFTER_MESSAGES - sealer->counter;
}

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
 * Seals the packets of well-formed frames under the next counters. `out` has the room that the run says, `pieces` one
 * for each packet. Returns 0 when libcrypto fails.
 */
EXPORT int batch_seal(struct sealer *sealer, const uint8_t *arena, const struct frame *frames, uint32_t count,
                      uint8_t *out, struct piece *pieces, struct sealed *result)
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
            put_le64(datagram + 8, sealer->counter);
            if (!cipher_seal(sealer->cipher, sealer->counter, packet, length + padding))
                return 0;
            sealer->counter += sealer->stride;
            result->content += length + padding;
            add_to_pieces(pieces, result, length + padding + OVERHEAD);
        }
    }
    return 1;
}
