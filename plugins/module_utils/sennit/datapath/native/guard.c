/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Refuses handshake messages where they arrive: those without a valid mac1 always and, while Python says that it is
 * under load, with a cookie reply those without a valid mac2 (whitepaper sections 5.3, 5.4.4, 5.4.7; cookie.py does the
 * same). So a flood wakes up nobody. The hash is BLAKE2s (RFC 7693), which libcrypto would look up by name each time.
 */

#define _GNU_SOURCE /* struct in6_pktinfo */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "guard.h"

enum { INITIATION = 1, RESPONSE = 2, COOKIE_REPLY = 3 };
enum { INITIATION_LENGTH = 148, RESPONSE_LENGTH = 92, COOKIE_REPLY_LENGTH = 64 };
enum { MAC = 16, COOKIE = 16, XNONCE = 24, HALF = 16, BLOCK = 64, MAX_PLACE = 18 };
/* Far more than honest peers cause; what is beyond comes again by itself. */
enum { REPLIES = 1000 };
static const double window = 0.1;
/* Of one address, in a second; control lets no more come through (constants.py), and need not hear of the others. */
enum { ADMITTED = 25 };

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const uint8_t sigma[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static uint32_t right(uint32_t value, int bits) { return value >> bits | value << (32 - bits); }

static uint32_t left(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

static void mix(uint32_t *v, int a, int b, int c, int d, uint32_t x, uint32_t y)
{
    v[a] += v[b] + x;
    v[d] = right(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = right(v[b] ^ v[c], 12);
    v[a] += v[b] + y;
    v[d] = right(v[d] ^ v[a], 8);
    v[c] += v[d];
    v[b] = right(v[b] ^ v[c], 7);
}

/* `count`: of all bytes up to the block's end. */
static void compress(uint32_t *state, const uint8_t *block, uint32_t count, int last)
{
    uint32_t v[16], m[16];
    for (int word = 0; word < 16; word++)
        m[word] = le32(block + 4 * word);
    memcpy(v, state, 32);
    memcpy(v + 8, initial, 32);
    v[12] ^= count;
    if (last)
        v[14] = ~v[14];
    for (int round = 0; round < 10; round++) {
        const uint8_t *s = sigma[round];
        for (int column = 0; column < 4; column++)
            mix(v, column, column + 4, column + 8, column + 12, m[s[2 * column]], m[s[2 * column + 1]]);
        for (int column = 0; column < 4; column++)
            mix(v, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4, m[s[8 + 2 * column]],
                m[s[9 + 2 * column]]);
    }
    for (int word = 0; word < 8; word++)
        state[word] ^= v[word] ^ v[word + 8];
}

static struct keyed keyed_with(const uint8_t *key, uint32_t length)
{
    struct keyed keyed;
    uint8_t block[BLOCK] = {0};
    memcpy(keyed.state, initial, sizeof initial);
    keyed.state[0] ^= 0x01010000 ^ length << 8 ^ MAC;
    memcpy(block, key, length);
    compress(keyed.state, block, BLOCK, 0);
    return keyed;
}

/* Of at least one byte. */
static void mac(const struct keyed *keyed, const uint8_t *data, uint32_t length, uint8_t *result)
{
    uint32_t state[8], at = 0;
    uint8_t block[BLOCK] = {0};
    memcpy(state, keyed->state, sizeof state);
    for (; length - at > BLOCK; at += BLOCK)
        compress(state, data + at, BLOCK + at + BLOCK, 0);
    memcpy(block, data + at, length - at);
    compress(state, block, BLOCK + length, 1);
    for (int word = 0; word < MAC / 4; word++)
        put_le32(result + 4 * word, state[word]);
}

/* In the same time for all. */
static int same(const uint8_t *one, const uint8_t *two)
{
    uint8_t differing = 0;
    for (int byte = 0; byte < MAC; byte++)
        differing |= one[byte] ^ two[byte];
    return !differing;
}

static void quarter(uint32_t *x, int a, int b, int c, int d)
{
    x[a] += x[b];
    x[d] = left(x[d] ^ x[a], 16);
    x[c] += x[d];
    x[b] = left(x[b] ^ x[c], 12);
    x[a] += x[b];
    x[d] = left(x[d] ^ x[a], 8);
    x[c] += x[d];
    x[b] = left(x[b] ^ x[c], 7);
}

/* HChaCha20 (draft-irtf-cfrg-xchacha, section 2.2): the key for the second half of a long nonce. */
static void derive(const uint8_t *key, const uint8_t *nonce, uint8_t *result)
{
    uint32_t x[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    for (int word = 0; word < 8; word++)
        x[4 + word] = le32(key + 4 * word);
    for (int word = 0; word < 4; word++)
        x[12 + word] = le32(nonce + 4 * word);
    for (int round = 0; round < 10; round++) {
        for (int column = 0; column < 4; column++)
            quarter(x, column, column + 4, column + 8, column + 12);
        for (int column = 0; column < 4; column++)
            quarter(x, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4);
    }
    for (int word = 0; word < 4; word++) {
        put_le32(result + 4 * word, x[word]);
        put_le32(result + 16 + 4 * word, x[12 + word]);
    }
}

/* What a cookie is made of, as in cookie.py: the port, and the address without a scope. Returns its length. */
static uint32_t place_of(const struct origin *origin, uint8_t *place)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const uint8_t *address = origin->address + 4;
    uint32_t length = 4;
    if (native16(origin->address) == AF_INET6) {
        address = origin->address + 8;
        length = 16;
        if (memcmp(address, mapped, sizeof mapped) == 0) {
            address += sizeof mapped;
            length = 4;
        }
    }
    memcpy(place, origin->address + 2, 2);
    memcpy(place + 2, address, length);
    return 2 + length;
}

/* From the address that was asked, by whatever interface: nothing is looked up for a source that may be forged. */
static void reply(int udp, const struct origin *origin, uint8_t *datagram)
{
    union {
        struct cmsghdr aligned;
        uint8_t bytes[CMSG_SPACE(MAX_PKTINFO)];
    } control;
    struct origin to = *origin;
    struct iovec part = {datagram, COOKIE_REPLY_LENGTH};
    struct msghdr message = {
        .msg_name = to.address, .msg_namelen = to.address_length, .msg_iov = &part, .msg_iovlen = 1};
    if (to.pktinfo_length) {
        const int six = to.pktinfo_level == IPPROTO_IPV6;
        memset(to.pktinfo + (six ? 16 : 0), 0, 4); /* the interface */
        if (!six)
            memset(to.pktinfo + 8, 0, 4); /* the address in the header */
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(to.pktinfo_length);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = to.pktinfo_level;
        header->cmsg_type = six ? IPV6_PKTINFO : IP_PKTINFO;
        header->cmsg_len = CMSG_LEN(to.pktinfo_length);
        memcpy(CMSG_DATA(header), to.pktinfo, to.pktinfo_length);
    }
    (void)!sendmsg(udp, &message, MSG_DONTWAIT);
}

/* Whether there is a reply: `cookie`, sealed, to the message with this sender and mac1. */
static int make_reply(struct guard *guard, const uint8_t *sender, const uint8_t *mac1, const uint8_t *cookie,
                      uint8_t *datagram)
{
    uint8_t key[32], nonce[NONCE] = {0}, *long_nonce = datagram + 8, *sealed = datagram + 8 + XNONCE;
    put_le32(datagram, COOKIE_REPLY);
    memcpy(datagram + 4, sender, 4);
    if (getrandom(long_nonce, XNONCE, GRND_NONBLOCK) != XNONCE)
        return 0;
    derive(guard->cookie_key, long_nonce, key);
    memcpy(nonce + 4, long_nonce + HALF, XNONCE - HALF);
    memcpy(sealed, cookie, COOKIE);
    return cipher_seal_with(guard->cipher, key, nonce, mac1, MAC, sealed, COOKIE);
}

EXPORT struct guard *batch_guard_new(void)
{
    static const uint8_t none[32];
    struct guard *guard = calloc(1, sizeof *guard);
    if (guard && !(guard->cipher = cipher_new(none, 1))) {
        free(guard);
        guard = NULL;
    }
    return guard;
}

EXPORT void batch_guard_free(struct guard *guard)
{
    cipher_free(guard->cipher);
    free(guard);
}

/* Messages are meant for this key of ours. No cookies are asked for until batch_guard_ask says so. */
EXPORT void batch_guard_identify(struct guard *guard, const uint8_t *mac1_key, const uint8_t *cookie_key)
{
    guard->mac1 = keyed_with(mac1_key, 32);
    memcpy(guard->cookie_key, cookie_key, 32);
    guard->until = 0;
    guard->identified = 1;
}

EXPORT void batch_guard_ask(struct guard *guard, const uint8_t *secret, double until)
{
    guard->secret = keyed_with(secret, 32);
    guard->until = until;
}

/* Whether control may hear of one more. It looks exactly, so it does no harm when addresses share a place here. */
static int admits(struct guard *guard, const struct origin *origin, double now)
{
    uint8_t place[MAX_PLACE];
    const uint32_t length = place_of(origin, place);
    /* The port is not part of it, nor is what a host of IPv6 can choose freely. */
    const uint64_t address = length == MAX_PLACE ? le64(place + 2) : le32(place + 2);
    struct taken *taken = &guard->taken[(address * UINT64_C(0x9e3779b97f4a7c15)) >> 56];
    if (taken->address != address || now >= taken->until)
        *taken = (struct taken){address, now + 1, 0};
    return ++taken->count <= ADMITTED;
}

int guard_judges(const struct guard *guard, const uint8_t *datagram, uint32_t length)
{
    return guard && guard->identified &&
           ((length == INITIATION_LENGTH && le32(datagram) == INITIATION) ||
            (length == RESPONSE_LENGTH && le32(datagram) == RESPONSE));
}

void guard_mac1(const struct guard *guard, const uint8_t *datagram, uint32_t length, uint8_t *result)
{
    mac(&guard->mac1, datagram, length - 2 * MAC, result);
}

/* What is handed out to who is there. */
static void cookie_of(const struct guard *guard, const struct origin *origin, uint8_t *cookie)
{
    uint8_t place[MAX_PLACE];
    const uint32_t length = place_of(origin, place);
    mac(&guard->secret, place, length, cookie);
}

void guard_mac2(const struct guard *guard, const uint8_t *datagram, uint32_t length, const struct origin *origin,
                uint8_t *result)
{
    uint8_t cookie[COOKIE];
    cookie_of(guard, origin, cookie);
    const struct keyed keyed = keyed_with(cookie, COOKIE);
    mac(&keyed, datagram, length - MAC, result);
}

int guard_refuses(struct guard *guard, const uint8_t *datagram, uint32_t length, const struct origin *origin, int udp,
                  double now)
{
    static const uint8_t none[MAC];
    const uint8_t *mac2 = datagram + length - MAC, *mac1 = mac2 - MAC;
    uint8_t right_one[MAC], cookie[COOKIE], answer[COOKIE_REPLY_LENGTH];
    guard_mac1(guard, datagram, length, right_one);
    if (!same(right_one, mac1)) {
        guard->invalid_mac1++;
        return 1;
    }
    if (now >= guard->until)
        return 0;
    if (memcmp(mac2, none, MAC) != 0) {
        guard_mac2(guard, datagram, length, origin, right_one);
        if (same(right_one, mac2)) {
            const int refused = !admits(guard, origin, now);
            guard->limited += (uint32_t)refused;
            return refused;
        }
    }
    if (now >= guard->window) {
        guard->window = now + window;
        guard->left = REPLIES;
    }
    cookie_of(guard, origin, cookie);
    if (!guard->left || !make_reply(guard, datagram + 4, mac1, cookie, answer)) {
        guard->unanswered++;
        return 1;
    }
    guard->left--;
    guard->cookies++;
    reply(udp, origin, answer);
    return 1;
}
