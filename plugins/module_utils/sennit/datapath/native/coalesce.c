/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Joining packets into the super-packets that they could have been cut from, and writing them to TUN; see coalesce.py.
 */

#include <sys/uio.h>

#include "batch.h"

_Static_assert(sizeof(struct joined) == 40, "as native/__init__.py has it");

struct writer {
    const uint8_t *arena;
    const struct packet *packets;
    uint32_t *next;
    struct joined *queue;
    uint32_t length;
    int checked; /* only packets with right checksums are joined */
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

/* 0 for a packet with right checksums. */
static uint32_t excess(const struct joined *joined, const uint8_t *packet, uint32_t length)
{
    return (words_sum(packet, length) + joined->balance + (joined->ip == 20 ? length : 0)) % 65535;
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
    const uint32_t wrong = excess(joined, packet, entry->length);
    if (joined->packets == 1)
        joined->wrong = excess(joined, first, writer->packets[joined->first].length);
    if (writer->checked && (wrong || joined->wrong))
        return 0;
    joined->wrong = (joined->wrong + wrong) % 65535;
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

/* Returns whether the checksums of what is joined are right. */
static int join(struct writer *writer, uint32_t count, int udp)
{
    uint32_t wrong = 0;
    writer->length = 0;
    for (uint32_t n = 0; n < count; n++)
        if (writer->packets[n].length)
            enqueue(writer, n, udp);
    for (uint32_t n = 0; n < writer->length; n++)
        wrong |= writer->queue[n].wrong;
    return !wrong;
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
    struct writer writer = {arena, packets, next, queue, 0, 0};
    uint32_t failed = 0;
    if (!join(&writer, count, udp)) {
        writer.checked = 1;
        join(&writer, count, udp);
    }
    for (uint32_t n = 0; n < writer.length; n++)
        if (!write_joined(&writer, &queue[n], fd))
            failed += queue[n].packets;
    return failed;
}
