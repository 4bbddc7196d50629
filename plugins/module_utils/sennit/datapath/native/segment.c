/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Cutting super-packets from TUN into the packets that they stand for; see segment.py.
 */

#include "batch.h"

int understand(const uint8_t *frame, uint32_t frame_length, struct cut *cut)
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

uint32_t longest(const struct cut *cut)
{
    return cut->count == 1 ? cut->length : cut->headers + cut->size;
}

uint32_t segment(const struct cut *cut, uint32_t n, uint8_t *out)
{
    const uint8_t *packet = cut->packet;
    if (cut->kind == PLAIN || cut->kind == COMPLETE) {
        memcpy(out, packet, cut->length);
        if (cut->kind == COMPLETE) {
            const uint32_t start = cut->transport;
            put_be16(out + cut->field, checksum_not_0(words_sum(packet + start, cut->length - start)));
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
    put_be16(out + cut->field, cut->kind == CUT_TCP ? checksum(sum) : checksum_not_0(sum));
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
