/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The loops of the workers, as long as nothing is there to be decided: outflow.c and inflow.c.
 */

#ifndef FLOW_H
#define FLOW_H

#include "batch.h"
#include "guard.h"

enum { CHANNELS = 9, BUDGET = 64, ENOUGH = BUDGET / 2, ROUTES = 1024, LANES = 4096 };
/* Why a loop gives way to Python. */
enum stop { TIME, COMMANDS, WORKED, UNKNOWN, UNSENT, FAILED };

/* Messages from another process. `sent` lies in memory that it shares with us; the first without ends the list. */
struct channel {
    const volatile uint32_t *sent;
    uint32_t received;
    int32_t fd;
};

/* The outbound worker's. */
struct route {
    uint32_t version; /* 0: nothing is known here */
    uint8_t destination[16];
    struct sealer *sealer;
};

struct outflow {
    int32_t tun;
    int32_t udp;
    int32_t taking; /* 0: packets stay in the device */
    uint32_t size;  /* of `arena` */
    uint8_t *arena;
    struct frame *frames;
    struct run *runs;
    uint8_t *out;
    uint32_t room; /* of `out` */
    uint32_t most; /* entries in `pieces` */
    struct piece *pieces;
    struct channel channels[CHANNELS];
    struct intake in;
    uint32_t next;      /* of the runs, which to send next */
    uint32_t unsent;    /* of the pieces, which the kernel did not take */
    uint32_t malformed; /* since Python has looked */
    uint32_t worked;
    struct sealed sealed;
    struct sealer *sealer; /* that sealed them */
    struct route routes[ROUTES];
};

/* The inbound worker's. */
struct inflow {
    int32_t udp;
    int32_t tun;
    int32_t takes_udp;
    uint32_t size; /* of `arena` */
    uint8_t *arena;
    struct packet *packets;
    uint32_t *unknown;
    uint32_t *next;
    struct joined *queue;
    struct channel channels[CHANNELS];
    uint32_t at;    /* where in the arena the next receive goes */
    uint32_t count; /* of `packets` */
    int32_t left;   /* of this turn's budget */
    uint32_t generation;
    /* What was received last, or what is left of it. */
    uint32_t pending; /* 1: to be looked at, 2: being taken */
    uint32_t start;
    uint32_t length;
    uint32_t each; /* of a datagram, but for a shorter last one */
    struct origin origin;
    /* Since Python has looked. */
    uint32_t failed;
    uint32_t worked;
    uint32_t urgent; /* a keepalive came */
    /* Packets whose source is for Python to look up. */
    uint32_t unknowns;
    struct opener *opener;
    struct guard *guard; /* NULL: Python looks at all handshake messages */
    struct opener *lanes[LANES];
};

EXPORT void batch_route(struct outflow *flow, uint32_t version, const uint8_t *destination, struct sealer *sealer);
EXPORT void batch_forget_routes(struct outflow *flow);
EXPORT int batch_outflow(struct outflow *flow, double deadline);
EXPORT void batch_lane(struct inflow *flow, struct opener *opener);
EXPORT void batch_forget_lanes(struct inflow *flow);
EXPORT int batch_inflow(struct inflow *flow, double deadline);

int commands_wait(const struct channel *channels);

/* Seconds on the monotonic clock, as Python's time.monotonic(). */
double monotonic(void);

/*
 * Sleeps until `fd` (unless it is -1) or a channel can be read, or until `deadline`; 0: for ever. Returns COMMANDS when
 * Python has to look, TIME when the deadline is over, and -1 otherwise.
 */
int wait_for(int fd, const struct channel *channels, double deadline);

#endif
