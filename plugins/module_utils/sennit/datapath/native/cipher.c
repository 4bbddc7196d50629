/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * ChaCha20-Poly1305, by libcrypto. It is not linked: Python opens the one that the host has and passes its functions. So
 * one build for an architecture fits every distribution, and neither libcrypto's headers nor its version matter to the
 * build.
 *
 * EVP's own part of a packet takes 0.2 us, a quarter of all there is to it. Since OpenSSL 3 it is a layer above a
 * provider, whose functions are as public as EVP's (provider-cipher(7), core_dispatch.h), and are called without it.
 */

#include <stdlib.h>
#include <strings.h>

#include "batch.h"

enum { AEAD_GET_TAG = 0x10, AEAD_SET_TAG = 0x11 };
enum { OPERATION_CIPHER = 2, OCTET_STRING = 5 };
enum { NEW = 1, INIT_SEAL = 2, INIT_OPEN = 3, UPDATE = 4, FINAL = 5, FREE = 7, GET = 10, FUNCTIONS };

/* OSSL_PARAM, OSSL_DISPATCH and OSSL_ALGORITHM. */
struct parameter {
    const char *key;
    unsigned type;
    void *data;
    size_t size;
    size_t returned;
};
struct dispatch {
    int function;
    void (*call)(void);
};
struct algorithm {
    const char *names;
    const char *properties;
    const struct dispatch *functions;
    const char *description;
};

struct crypto {
    const void *(*cipher)(void); /* EVP_chacha20_poly1305 */
    void *(*new)(void);          /* EVP_CIPHER_CTX_new */
    void (*free)(void *);
    int (*init)(void *, const void *, void *, const uint8_t *, const uint8_t *, int); /* EVP_CipherInit_ex */
    int (*update)(void *, uint8_t *, int *, const uint8_t *, int);
    int (*final)(void *, uint8_t *, int *);
    int (*control)(void *, int, int, void *);
    /* Since OpenSSL 3; before that all of them are NULL. */
    void *(*fetch)(void *, const char *, const char *);             /* EVP_CIPHER_fetch */
    void *(*provider)(const void *);                                /* EVP_CIPHER_get0_provider */
    void *(*context)(const void *);                                 /* OSSL_PROVIDER_get0_provider_ctx */
    const struct algorithm *(*query)(const void *, int, int *);     /* OSSL_PROVIDER_query_operation */
};

static struct crypto crypto;

/* The functions of the provider that the host's configuration chooses for this cipher. */
static struct {
    void *(*new)(void *);
    int (*init[2])(void *, const uint8_t *, size_t, const uint8_t *, size_t, const struct parameter *); /* opens, seals */
    int (*update)(void *, uint8_t *, size_t *, size_t, const uint8_t *, size_t);
    int (*final)(void *, uint8_t *, size_t *, size_t);
    void (*free)(void *);
    int (*get)(void *, struct parameter *);
    void *context;
} provider;

struct cipher {
    void *context;
    int seals;
    struct parameter tag[2]; /* the second one ends the list */
};

EXPORT int batch_abi(void) { return ABI; }

/* Whether `name` is among names that colons separate. */
static int among(const char *names, const char *name)
{
    const size_t length = strlen(name);
    for (; names; names = strchr(names, ':')) {
        names += *names == ':';
        if (strncasecmp(names, name, length) == 0 && (names[length] == ':' || !names[length]))
            return 1;
    }
    return 0;
}

/* Leaves `provider.new` NULL where there is none that has all that is needed. */
static void find_provider(void)
{
    static const char name[] = "ChaCha20-Poly1305";
    void (*found[FUNCTIONS])(void) = {NULL};
    int any;
    memset(&provider, 0, sizeof provider);
    void *cipher = crypto.fetch ? crypto.fetch(NULL, name, NULL) : NULL; /* kept: it holds the provider */
    if (!cipher)
        return;
    const void *owner = crypto.provider(cipher);
    const struct algorithm *each = crypto.query(owner, OPERATION_CIPHER, &any);
    while (each && each->names && !among(each->names, name))
        each++;
    if (!each || !each->names)
        return;
    for (const struct dispatch *entry = each->functions; entry->function; entry++)
        if (entry->function < FUNCTIONS)
            found[entry->function] = entry->call;
    if (!found[NEW] || !found[INIT_SEAL] || !found[INIT_OPEN] || !found[UPDATE] || !found[FINAL] || !found[FREE] ||
        !found[GET])
        return;
    memcpy(&provider.new, &found[NEW], sizeof provider.new);
    memcpy(&provider.init[0], &found[INIT_OPEN], sizeof provider.init[0]);
    memcpy(&provider.init[1], &found[INIT_SEAL], sizeof provider.init[1]);
    memcpy(&provider.update, &found[UPDATE], sizeof provider.update);
    memcpy(&provider.final, &found[FINAL], sizeof provider.final);
    memcpy(&provider.free, &found[FREE], sizeof provider.free);
    memcpy(&provider.get, &found[GET], sizeof provider.get);
    provider.context = crypto.context(owner);
}

/* Once, before all else. */
EXPORT void batch_use(const struct crypto *functions)
{
    crypto = *functions;
    find_provider();
}

struct cipher *cipher_new(const uint8_t *key, int seals)
{
    struct cipher *cipher = malloc(sizeof *cipher);
    if (!cipher)
        return NULL;
    *cipher = (struct cipher){.seals = !!seals, .tag = {{"tag", OCTET_STRING, NULL, TAG, 0}, {NULL, 0, NULL, 0, 0}}};
    int ready;
    if (provider.new) {
        cipher->context = provider.new(provider.context);
        ready = cipher->context && provider.init[cipher->seals](cipher->context, key, 32, NULL, 0, NULL) == 1;
    } else {
        cipher->context = crypto.new();
        ready = cipher->context && crypto.init(cipher->context, crypto.cipher(), NULL, key, NULL, seals) == 1;
    }
    if (!ready) {
        cipher_free(cipher);
        cipher = NULL;
    }
    return cipher;
}

/* The nonce is four zero bytes and the counter (whitepaper section 5.4.6). It is all that is set anew. */
static void make_nonce(uint8_t *nonce, uint64_t counter)
{
    memset(nonce, 0, NONCE);
    put_le64(nonce + 4, counter);
}

int cipher_seal(struct cipher *cipher, uint64_t counter, uint8_t *data, uint32_t length)
{
    void *context = cipher->context;
    uint8_t nonce[NONCE];
    make_nonce(nonce, counter);
    if (provider.new) {
        size_t done;
        cipher->tag[0].data = data + length;
        return provider.init[1](context, NULL, 0, nonce, NONCE, NULL) == 1 &&
               (!length || provider.update(context, data, &done, length, data, length) == 1) &&
               provider.final(context, data + length, &done, TAG) == 1 && provider.get(context, cipher->tag) == 1;
    }
    int done = 0;
    return crypto.init(context, NULL, NULL, NULL, nonce, -1) == 1 &&
           (!length || crypto.update(context, data, &done, data, (int)length) == 1) &&
           crypto.final(context, data + length, &done) == 1 &&
           crypto.control(context, AEAD_GET_TAG, TAG, data + length) == 1;
}

int cipher_open(struct cipher *cipher, uint64_t counter, uint8_t *data, uint32_t length)
{
    void *context = cipher->context;
    uint8_t nonce[NONCE];
    make_nonce(nonce, counter);
    if (provider.new) {
        size_t done;
        cipher->tag[0].data = data + length;
        return provider.init[0](context, NULL, 0, nonce, NONCE, cipher->tag) == 1 &&
               (!length || provider.update(context, data, &done, length, data, length) == 1) &&
               provider.final(context, data + length, &done, TAG) == 1;
    }
    int done = 0;
    return crypto.init(context, NULL, NULL, NULL, nonce, -1) == 1 &&
           crypto.control(context, AEAD_SET_TAG, TAG, data + length) == 1 &&
           (!length || crypto.update(context, data, &done, data, (int)length) == 1) &&
           crypto.final(context, data + length, &done) == 1;
}

int cipher_seal_with(struct cipher *cipher, const uint8_t *key, const uint8_t *nonce, const uint8_t *associated,
                     uint32_t associated_length, uint8_t *data, uint32_t length)
{
    void *context = cipher->context;
    if (provider.new) {
        size_t done;
        cipher->tag[0].data = data + length;
        return provider.init[1](context, key, 32, nonce, NONCE, NULL) == 1 &&
               provider.update(context, NULL, &done, associated_length, associated, associated_length) == 1 &&
               provider.update(context, data, &done, length, data, length) == 1 &&
               provider.final(context, data + length, &done, TAG) == 1 && provider.get(context, cipher->tag) == 1;
    }
    int done = 0;
    return crypto.init(context, NULL, NULL, key, nonce, 1) == 1 &&
           crypto.update(context, NULL, &done, associated, (int)associated_length) == 1 &&
           crypto.update(context, data, &done, data, (int)length) == 1 &&
           crypto.final(context, data + length, &done) == 1 &&
           crypto.control(context, AEAD_GET_TAG, TAG, data + length) == 1;
}

void cipher_free(struct cipher *cipher)
{
    if (cipher->context)
        (provider.new ? provider.free : crypto.free)(cipher->context);
    free(cipher);
}
