/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What stands before the handshakes: guard.c.
 */

#ifndef GUARD_H
#define GUARD_H

#include "batch.h"

/* BLAKE2s with 16 bytes of output, after its key. */
struct keyed {
    uint32_t state[8];
};

enum { ADDRESSES = 256 };

/* What came with a valid mac2 of one address, in this second. */
struct taken {
    uint64_t address;
    double until;
    uint32_t count;
};

struct guard {
    /* Since Python has looked. */
    uint32_t invalid_mac1;
    uint32_t cookies;    /* messages that were answered with one */
    uint32_t unanswered; /* and that were not: too many */
    uint32_t limited;    /* with a valid mac2, from an address that sends too many */
    uint32_t identified; /* from here on C's alone */
    struct keyed mac1;
    uint8_t cookie_key[32];
    struct keyed secret;
    double until; /* cookies are asked for */
    double window;
    uint32_t left; /* answers, in this window */
    struct cipher *cipher;
    struct taken taken[ADDRESSES];
};

EXPORT struct guard *batch_guard_new(void);
EXPORT void batch_guard_free(struct guard *guard);
EXPORT void batch_guard_identify(struct guard *guard, const uint8_t *mac1_key, const uint8_t *cookie_key);
EXPORT void batch_guard_ask(struct guard *guard, const uint8_t *secret, double until);

/* Whether the datagram is of a kind that guard_refuses judges. */
int guard_judges(const struct guard *guard, const uint8_t *datagram, uint32_t length);

/* What the message of this length has to have as its mac1. */
void guard_mac1(const struct guard *guard, const uint8_t *datagram, uint32_t length, uint8_t *result);

/* And as its mac2, when it comes from there. */
void guard_mac2(const struct guard *guard, const uint8_t *datagram, uint32_t length, const struct origin *origin,
                uint8_t *result);

/* Whether nobody has to see the message: it is dropped, or answered with a cookie. */
int guard_refuses(struct guard *guard, const uint8_t *datagram, uint32_t length, const struct origin *origin, int udp,
                  double now);

#endif
