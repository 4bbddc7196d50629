/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * ChaCha20-Poly1305, by libcrypto's EVP. libcrypto is not linked: Python opens the one that the host has and passes its
 * functions. So one build for an architecture fits every distribution, and neither libcrypto's headers nor its version
 * matter to the build.
 */

#include "batch.h"

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

void *cipher_new(const uint8_t *key, int seals)
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

int cipher_seal(void *context, uint64_t counter, uint8_t *data, uint32_t length)
{
    int done = 0;
    return set_nonce(context, counter) && (!length || crypto.update(context, data, &done, data, (int)length) == 1) &&
           crypto.final(context, data + length, &done) == 1 &&
           crypto.control(context, AEAD_GET_TAG, TAG, data + length) == 1;
}

int cipher_open(void *context, uint64_t counter, uint8_t *data, uint32_t length)
{
    int done = 0;
    return set_nonce(context, counter) && crypto.control(context, AEAD_SET_TAG, TAG, data + length) == 1 &&
           (!length || crypto.update(context, data, &done, data, (int)length) == 1) &&
           crypto.final(context, data + length, &done) == 1;
}

void cipher_free(void *context) { crypto.free(context); }
