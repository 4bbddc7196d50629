/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The outbound worker's loop: TUN -> runs -> sealed pieces -> UDP, for destinations that Python has told how to send to.
 */

#define _GNU_SOURCE /* struct in6_pktinfo and the like in the headers below */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "flow.h"

enum { SEGMENT = 103 /* UDP_SEGMENT */ };

static struct route *place(struct outflow *flow, uint32_t version, const uint8_t *destination)
{
    uint32_t hash = 0;
    for (uint32_t at = 0; at < (version == 4 ? 4u : 16u); at += 4)
        hash = (hash ^ le32(destination + at)) * 0x9e3779b1u;
    return &flow->routes[(hash >> 16) % ROUTES];
}

/* What is for this destination is sealed by this sealer, and sent by its way, until Python says otherwise. */
EXPORT void batch_route(struct outflow *flow, uint32_t version, const uint8_t *destination, struct sealer *sealer)
{
    struct route *route = place(flow, version, destination);
    route->version = version;
    memcpy(route->destination, destination, version == 4 ? 4 : 16);
    route->sealer = sealer;
}

EXPORT void batch_forget_routes(struct outflow *flow) { memset(flow->routes, 0, sizeof flow->routes); }

static struct sealer *sealer_for(struct outflow *flow, const struct run *run, double now)
{
    const struct route *route = place(flow, run->version, run->destination);
    if (route->version != run->version ||
        memcmp(route->destination, run->destination, run->version == 4 ? 4 : 16) != 0)
        return NULL;
    struct sealer *sealer = route->sealer;
    if (now >= sealer->expires_at || run->room > flow->room || run->packets > flow->most ||
        !batch_ready(sealer, run->packets))
        return NULL;
    return sealer;
}

static int send_datagrams(const struct outflow *flow, struct sealer *sealer, uint32_t offset, uint32_t length,
                          uint32_t segment)
{
    union {
        struct cmsghdr aligned;
        uint8_t bytes[CMSG_SPACE(MAX_PKTINFO) + CMSG_SPACE(2)];
    } control;
    struct iovec part = {flow->out + offset, length};
    struct msghdr message = {.msg_name = sealer->way.address_length ? sealer->way.address : NULL,
                             .msg_namelen = sealer->way.address_length,
                             .msg_iov = &part,
                             .msg_iovlen = 1};
    size_t used = 0;
    memset(&control, 0, sizeof control);
    if (sealer->way.pktinfo_length) {
        control.aligned.cmsg_level = sealer->way.pktinfo_level;
        control.aligned.cmsg_type = sealer->way.pktinfo_type;
        control.aligned.cmsg_len = CMSG_LEN(sealer->way.pktinfo_length);
        memcpy(CMSG_DATA(&control.aligned), sealer->way.pktinfo, sealer->way.pktinfo_length);
        used = CMSG_SPACE(sealer->way.pktinfo_length);
    }
    if (segment) {
        struct cmsghdr *header = (struct cmsghdr *)(void *)(control.bytes + used);
        const uint16_t size = (uint16_t)segment;
        header->cmsg_level = IPPROTO_UDP;
        header->cmsg_type = SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(header), &size, sizeof size);
        used += CMSG_SPACE(sizeof size);
    }
    if (used) {
        message.msg_control = control.bytes;
        message.msg_controllen = used;
    }
    return sendmsg(flow->udp, &message, 0) >= 0;
}

static int send_piece(const struct outflow *flow, struct sealer *sealer, const struct piece *piece)
{
    return send_datagrams(flow, sealer, piece->offset, piece->length, piece->count > 1 ? piece->size : 0);
}

/* Sends the runs from `next` on. Returns a reason to stop, or -1 when all are sent. */
static int forward(struct outflow *flow, double now)
{
    while (flow->next < flow->in.runs) {
        /* They may be answers to what an inbound worker received a moment ago, on a new keypair or endpoint. */
        if (commands_wait(flow->channels))
            return COMMANDS;
        const struct run *run = &flow->runs[flow->next];
        struct sealer *sealer = sealer_for(flow, run, now);
        if (!sealer)
            return UNKNOWN;
        flow->next++;
        if (!batch_seal(sealer, flow->arena, flow->frames + run->first, run->frames, flow->out, flow->pieces,
                        &flow->sealed))
            return FAILED;
        sealer->packets += run->packets;
        sealer->bytes += flow->sealed.length;
        sealer->at = now;
        for (uint32_t n = 0; n < flow->sealed.pieces; n++) {
            const struct piece *piece = &flow->pieces[n];
            /* Larger ones the way does not segment, which is for Python to see to. */
            if ((piece->count > 1 && piece->size >= sealer->below) || !send_piece(flow, sealer, piece)) {
                flow->unsent = n;
                flow->sealer = sealer;
                return UNSENT;
            }
        }
    }
    return -1;
}

EXPORT uint32_t batch_outflow_size(void) { return sizeof(struct outflow); }

/*
 * Sends what comes until something is for Python to decide, or until `deadline`; 0: until the first batch is sent. What
 * a failed read means is in `in.error`, which is 0 when libcrypto failed.
 */
EXPORT int batch_outflow(struct outflow *flow, double deadline)
{
    for (;;) {
        const double now = monotonic();
        int stop = forward(flow, now);
        if (stop >= 0)
            return stop;
        if (flow->worked && (deadline <= 0 || now >= deadline))
            return WORKED;
        if (commands_wait(flow->channels))
            return COMMANDS;
        if (flow->taking && !flow->in.error) {
            batch_read(flow->tun, flow->arena, flow->size, BUDGET, flow->frames, flow->runs, &flow->in);
            if (flow->in.error && flow->in.error != EAGAIN && flow->in.error != EINTR)
                return FAILED;
            flow->next = 0;
            flow->malformed += flow->in.malformed;
            if (flow->in.runs || flow->in.malformed) {
                flow->worked = 1;
                continue;
            }
        }
        flow->in = (struct intake){0};
        flow->next = 0;
        stop = wait_for(flow->taking ? flow->tun : -1, flow->channels, deadline);
        if (stop >= 0)
            return stop;
    }
}
