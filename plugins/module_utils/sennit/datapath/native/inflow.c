/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The inbound worker's loop: UDP -> opened packets -> super-packets -> TUN, for keypairs that Python has told of, as
 * long as their packets come from where they came from before.
 */

#define _GNU_SOURCE /* struct in6_pktinfo and the like in the headers below */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "flow.h"

enum { GRO = 104 /* UDP_GRO */, RECEIVE_ROOM = 65536 };

/*
 * Datagrams of this opener's keypair, from where the last receive came from, are taken as they come until Python says
 * otherwise.
 */
EXPORT void batch_lane(struct inflow *flow, struct opener *opener)
{
    opener->origin = flow->origin;
    flow->lanes[opener->index % LANES] = opener;
}

EXPORT void batch_forget_lanes(struct inflow *flow) { memset(flow->lanes, 0, sizeof flow->lanes); }

static int same_origin(const struct origin *one, const struct origin *two)
{
    return one->address_length == two->address_length && one->pktinfo_length == two->pktinfo_length &&
           one->pktinfo_level == two->pktinfo_level && memcmp(one->address, two->address, one->address_length) == 0 &&
           memcmp(one->pktinfo, two->pktinfo, one->pktinfo_length) == 0;
}

/* The opener of a datagram that needs no decision of Python's, else NULL. */
static struct opener *opener_of(const struct inflow *flow, const uint8_t *datagram, uint32_t length, double now)
{
    if (length < OVERHEAD || le32(datagram) != TRANSPORT)
        return NULL;
    struct opener *opener = flow->lanes[le32(datagram + 4) % LANES];
    if (!opener || opener->index != le32(datagram + 4) || now >= opener->expires_at ||
        !same_origin(&opener->origin, &flow->origin))
        return NULL;
    return opener;
}

/* Whether something was received. */
static int receive(struct inflow *flow)
{
    union {
        struct cmsghdr aligned;
        uint8_t bytes[CMSG_SPACE(MAX_PKTINFO) + CMSG_SPACE(4) + 64];
    } control;
    struct origin *origin = &flow->origin;
    struct iovec part = {flow->arena + flow->at, RECEIVE_ROOM};
    struct msghdr message = {.msg_name = origin->address,
                             .msg_namelen = sizeof origin->address,
                             .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    const ssize_t length = recvmsg(flow->udp, &message, MSG_DONTWAIT);
    if (length < 0) /* nothing there, or an error that an earlier packet met, which is cleared by reading it */
        return 0;
    origin->address_length =
        message.msg_namelen < sizeof origin->address ? message.msg_namelen : (uint32_t)sizeof origin->address;
    origin->pktinfo_length = 0;
    uint32_t each = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        const size_t held = header->cmsg_len - CMSG_LEN(0);
        if (header->cmsg_level == IPPROTO_UDP) {
            int32_t size;
            if (header->cmsg_type == GRO && held >= sizeof size) {
                memcpy(&size, CMSG_DATA(header), sizeof size);
                each = size > 0 ? (uint32_t)size : 0;
            }
        } else if (held <= MAX_PKTINFO) {
            origin->pktinfo_level = header->cmsg_level;
            origin->pktinfo_length = (uint32_t)held;
            memcpy(origin->pktinfo, CMSG_DATA(header), held);
        }
    }
    flow->start = flow->at;
    flow->length = (uint32_t)length;
    flow->each = each && each < flow->length ? each : flow->length ? flow->length : 1;
    flow->at += (flow->length + 15) & ~15u;
    flow->pending = 1;
    return 1;
}

/* Opens what was received, and refuses what the guard does. Returns a reason to stop, or -1. */
static int take(struct inflow *flow, double now)
{
    const uint32_t end = flow->start + flow->length;
    struct opened opened;
    if (flow->pending == 1) {
        const int32_t datagrams = (int32_t)((flow->length + flow->each - 1) / flow->each);
        flow->left -= datagrams;
        /* To ask for more that is not there yet would cost a call. But what filled the kernel's buffer was cut from more:
         * the rest of a super-packet is right behind it. */
        if (flow->left <= BUDGET - ENOUGH && flow->length + flow->each <= UDP_MAX_PAYLOAD)
            flow->left = 0;
        /* All of it or nothing: what is not plain, Python takes as a whole. */
        for (uint32_t at = flow->start; at < end; at += flow->each) {
            const uint32_t length = end - at < flow->each ? end - at : flow->each;
            if (!opener_of(flow, flow->arena + at, length, now) &&
                !guard_judges(flow->guard, flow->arena + at, length))
                return UNKNOWN;
        }
        if (!flow->length)
            return UNKNOWN;
        flow->pending = 2;
    }
    while (flow->start < end) {
        const uint32_t length = end - flow->start < flow->each ? end - flow->start : flow->each;
        const uint8_t *datagram = flow->arena + flow->start;
        struct opener *opener = opener_of(flow, datagram, length, now);
        if (!opener) { /* any more, or it is a handshake message */
            if (!guard_judges(flow->guard, datagram, length) ||
                !guard_refuses(flow->guard, datagram, length, &flow->origin, flow->udp, now))
                return UNKNOWN;
            flow->start += length;
            flow->length -= length;
            continue;
        }
        batch_open(opener, flow->arena, flow->start, end, flow->each, flow->generation, flow->packets, flow->count,
                   flow->unknown, &opened);
        flow->start = opened.end;
        flow->length = end - opened.end;
        flow->count = opened.count;
        struct tally *tally = &opener->tally;
        if (opened.packets || opened.keepalives)
            tally->at = now;
        tally->packets += opened.packets;
        tally->keepalives += opened.keepalives;
        tally->bytes += opened.bytes;
        tally->unauthentic += opened.unauthentic;
        tally->replayed += opened.replayed;
        tally->beyond += opened.beyond;
        tally->malformed += opened.malformed;
        flow->urgent |= opened.keepalives > 0;
        if (opened.unknown) {
            flow->unknowns = opened.unknown;
            flow->opener = opener;
            return UNSENT;
        }
    }
    flow->pending = 0;
    return -1;
}

EXPORT uint32_t batch_inflow_size(void) { return sizeof(struct inflow); }

/*
 * Takes what comes until something is for Python to decide, or until `deadline`; 0: until the first batch is written.
 * UNKNOWN: what was received. UNSENT: packets whose inner source is not known; it is to come back when it is.
 */
EXPORT int batch_inflow(struct inflow *flow, double deadline)
{
    for (;;) {
        const double now = monotonic();
        while (flow->pending || (flow->left > 0 && flow->at + RECEIVE_ROOM <= flow->size && receive(flow))) {
            /* They may come on a keypair that was installed a moment ago. */
            if (commands_wait(flow->channels))
                return COMMANDS;
            const int stop = take(flow, now);
            if (stop >= 0)
                return stop;
        }
        const int more = flow->left <= 0;
        if (flow->at) {
            flow->failed += batch_write(flow->tun, flow->arena, flow->packets, flow->count, flow->takes_udp, flow->next,
                                        flow->queue);
            flow->at = flow->count = 0;
            flow->worked = 1;
        }
        flow->left = BUDGET;
        if (flow->worked && (deadline <= 0 || flow->urgent || now >= deadline))
            return WORKED;
        if (more)
            continue;
        const int stop = wait_for(flow->udp, flow->channels, deadline);
        if (stop >= 0)
            return stop;
    }
}
