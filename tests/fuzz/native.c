/*
 * The native batch core under libFuzzer, with the address and undefined-behaviour sanitizers.
 *
 * The input is a list of chunks, each with its length in two bytes before it; the first byte of all says what they are:
 * frames from TUN, which are read, sealed, and opened again, or datagrams from UDP, which are opened and written; either
 * step by step, or by the loops that do all of it. The
 * cipher changes nothing and takes any tag, so that what is behind the authentication is reached. All memory is of
 * the size that was asked for, and nothing larger.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "flow.h"

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            abort(); \
    } while (0)

enum { ARENA = 2 * MAX_FRAME, MTU = 1420, MOST = 4096 };

struct crypto {
    const void *(*cipher)(void);
    void *(*new)(void);
    void (*free)(void *);
    int (*init)(void *, const void *, void *, const uint8_t *, const uint8_t *, int);
    int (*update)(void *, uint8_t *, int *, const uint8_t *, int);
    int (*final)(void *, uint8_t *, int *);
    int (*control)(void *, int, int, void *);
    void *since_3[4];
};

void batch_use(const struct crypto *functions);
struct sealer *batch_sealer_new(const uint8_t *, uint32_t, uint32_t);
void batch_sealer_free(struct sealer *);
struct opener *batch_opener_new(const uint8_t *, uint32_t);
void batch_opener_free(struct opener *);
void batch_know(struct opener *, const uint8_t *);
static const void *some_cipher(void) { return "none"; }

static void *context(void) { return malloc(1); }

static int init(void *c, const void *cipher, void *engine, const uint8_t *key, const uint8_t *nonce, int seals)
{
    (void)c, (void)cipher, (void)engine, (void)key, (void)nonce, (void)seals;
    return 1;
}

static int update(void *c, uint8_t *out, int *length, const uint8_t *in, int size)
{
    (void)c;
    if (out) /* else it is associated data */
        memmove(out, in, (size_t)size);
    *length = size;
    return 1;
}

static int final(void *c, uint8_t *out, int *length)
{
    (void)c, (void)out;
    *length = 0;
    return 1;
}

static int control(void *c, int what, int size, void *tag)
{
    (void)c;
    if (what == 0x10)
        memset(tag, 0x55, (size_t)size);
    return 1;
}

static int device[2], underlay[2], null;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    const struct crypto plain = {some_cipher, context, free, init, update, final, control, {NULL}};
    const int room = 4 << 20;
    batch_use(&plain);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, device) == 0);
    CHECK(setsockopt(device[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, underlay) == 0);
    CHECK(setsockopt(underlay[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
    CHECK(setsockopt(underlay[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
    CHECK((null = open("/dev/null", O_WRONLY)) >= 0);
    return 0;
}

static void *take(size_t size)
{
    void *memory = malloc(size ? size : 1);
    CHECK(memory);
    return memory;
}

/* Opens datagrams of one size, all of one keypair; writes what was in them. Returns how many were opened. */
static uint32_t open_and_write(uint8_t *data, uint32_t length, uint32_t size, uint32_t index, int allows)
{
    const uint8_t key[32] = {0};
    const uint32_t most = length / OVERHEAD + 1;
    struct packet *packets = take(most * sizeof *packets);
    uint32_t *unknown = take(most * sizeof *unknown), *next = take(most * sizeof *next);
    struct joined *queue = take(most * sizeof *queue);
    struct opener *opener = batch_opener_new(key, index);
    struct opened result;
    CHECK(opener);
    batch_open(opener, data, 0, length, size, 1, packets, 0, unknown, &result);
    CHECK(result.end <= length && result.count <= most && result.unknown <= result.count);
    for (uint32_t n = 0; n < result.unknown; n++) {
        CHECK(unknown[n] < result.count);
        if (allows)
            batch_know(opener, data + packets[unknown[n]].offset);
        else
            packets[unknown[n]].length = 0;
    }
    CHECK(batch_write(null, data, packets, result.count, allows, next, queue) == 0);
    batch_opener_free(opener);
    free(queue);
    free(next);
    free(unknown);
    free(packets);
    return result.packets + result.keepalives;
}

static void seal(const uint8_t *arena, const struct frame *frames, const struct run *run)
{
    const uint8_t key[32] = {0};
    struct sealer *sealer = batch_sealer_new(key, 7, MTU);
    uint8_t *out = take(run->room);
    struct piece *pieces = take(run->packets * sizeof *pieces);
    struct sealed sealed;
    uint32_t opened = 0;
    CHECK(sealer);
    CHECK(batch_seal(sealer, arena, frames + run->first, run->frames, out, pieces, &sealed));
    CHECK(sealed.length <= run->room && sealed.pieces <= run->packets);
    for (uint32_t n = 0; n < sealed.pieces; n++) {
        CHECK(pieces[n].offset + pieces[n].length <= sealed.length && pieces[n].count <= UDP_MAX_SEGMENTS);
        uint8_t *datagrams = take(pieces[n].length);
        memcpy(datagrams, out + pieces[n].offset, pieces[n].length);
        opened += open_and_write(datagrams, pieces[n].length, pieces[n].size, 7, 1);
        free(datagrams);
    }
    CHECK(opened == run->packets);
    free(pieces);
    free(out);
    batch_sealer_free(sealer);
}

static void send_frames(const uint8_t *data, size_t size)
{
    while (size >= 2) {
        const size_t wanted = be16(data), length = wanted < size - 2 ? wanted : size - 2;
        if (length && send(device[0], data + 2, length, 0) < 0)
            break;
        data += 2 + length;
        size -= 2 + length;
    }
}

static void outbound(const uint8_t *data, size_t size)
{
    uint8_t *arena = take(ARENA);
    struct frame *frames = take(BUDGET * sizeof *frames);
    struct run *runs = take(BUDGET * sizeof *runs);
    struct intake intake;
    send_frames(data, size);
    do {
        batch_read(device[1], arena, ARENA, BUDGET, frames, runs, &intake);
        uint32_t before = 0;
        for (uint32_t n = 0; n < intake.runs; n++) {
            CHECK(runs[n].first == before);
            before += runs[n].frames;
            /* Segments of one byte of a large packet are no less legal, but slow. */
            if (runs[n].packets <= MOST)
                seal(arena, frames, &runs[n]);
        }
        CHECK(before == intake.frames);
    } while (intake.frames || intake.malformed);
    free(runs);
    free(frames);
    free(arena);
}

static void inbound(const uint8_t *data, size_t size, int allows)
{
    if (size < 2 || size > 65535)
        return;
    const uint32_t each = be16(data) % 2048 + 1, length = (uint32_t)size - 2;
    uint8_t *datagrams = take(length);
    memcpy(datagrams, data + 2, length);
    /* Headers that lead further in; the rest is the fuzzer's. Two counters in three follow each other. */
    for (uint32_t at = 0, n = 0; at + OVERHEAD <= length; at += each, n++) {
        put_le32(datagrams + at, TRANSPORT);
        put_le32(datagrams + at + 4, 7);
        if (datagrams[at + 15] % 3)
            put_le64(datagrams + at + 8, n);
        if (each < OVERHEAD)
            break;
    }
    open_and_write(datagrams, length, each, 7, allows);
    free(datagrams);
}

/* The outbound worker's loop. As Python does, what has no way is left out or given one; the second channel wakes up. */
static void outflow(const uint8_t *data, size_t size)
{
    const uint8_t key[32] = {0};
    static volatile uint32_t messages;
    struct outflow *flow = calloc(1, sizeof *flow);
    struct sealer *sealer = batch_sealer_new(key, 7, MTU);
    uint8_t datagram[65536];
    uint64_t known = 0;
    CHECK(flow && sealer);
    sealer->expires_at = 1e18;
    sealer->below = 65536;
    flow->tun = device[1];
    flow->udp = underlay[0];
    flow->taking = 1;
    flow->size = ARENA;
    flow->arena = take(ARENA);
    flow->frames = take(BUDGET * sizeof *flow->frames);
    flow->runs = take(BUDGET * sizeof *flow->runs);
    flow->room = 1 << 17;
    flow->out = take(flow->room);
    flow->most = MOST;
    flow->pieces = take(flow->most * sizeof *flow->pieces);
    flow->channels[1].sent = &messages;
    flow->channels[1].fd = -1;
    send_frames(data, size);
    for (int stop = 0;;) {
        stop = batch_outflow(flow, 1e-9); /* is over */
        while (recv(underlay[1], datagram, sizeof datagram, 0) >= 0)
            ;
        if (stop == COMMANDS) {
            flow->channels[1].received = messages;
            batch_forget_routes(flow);
        } else if (stop == UNKNOWN) {
            const struct run *run = &flow->runs[flow->next];
            CHECK(flow->next < flow->in.runs);
            if (run->room > flow->room || run->packets > flow->most || known++ % 3 == 0)
                flow->next++;
            else
                batch_route(flow, run->version, run->destination, sealer);
            messages += known % 5 == 0;
        } else if (stop == UNSENT) {
            CHECK(flow->sealer == sealer && flow->unsent < flow->sealed.pieces);
        } else if (stop == TIME) {
            break;
        } else {
            CHECK(stop == WORKED);
        }
        flow->worked = 0;
    }
    free(flow->pieces);
    free(flow->out);
    free(flow->runs);
    free(flow->frames);
    free(flow->arena);
    free(flow);
    batch_sealer_free(sealer);
}

/*
 * The inbound worker's loop. Datagrams of index 7 have a lane from their second on; handshake messages have a guard
 * before them, and many of those a valid mac1, or both.
 */
static void inflow(const uint8_t *data, size_t size)
{
    enum { ROOM = 3 * 65536, ENTRIES = ROOM / OVERHEAD + 1 };
    const uint8_t key[32] = {0};
    struct inflow *flow = calloc(1, sizeof *flow);
    struct opener *opener = batch_opener_new(key, 7);
    struct guard *guard = batch_guard_new();
    CHECK(flow && opener && guard);
    batch_guard_identify(guard, key, key);
    batch_guard_ask(guard, key, size % 2 ? 1e18 : 0);
    flow->guard = guard;
    opener->expires_at = 1e18;
    flow->udp = underlay[1];
    flow->tun = null;
    flow->takes_udp = 1;
    flow->size = ROOM;
    flow->arena = take(ROOM);
    flow->packets = take(ENTRIES * sizeof *flow->packets);
    flow->unknown = take(ENTRIES * sizeof *flow->unknown);
    flow->next = take(ENTRIES * sizeof *flow->next);
    flow->queue = take(ENTRIES * sizeof *flow->queue);
    flow->left = BUDGET;
    uint8_t answer[64];
    for (uint64_t n = 0; size >= 2; n++) {
        uint8_t datagram[4096] = {0};
        const size_t wanted = be16(data) % sizeof datagram;
        size_t length = wanted < size - 2 ? wanted : size - 2;
        memcpy(datagram, data + 2, length);
        data += 2 + length;
        size -= 2 + length;
        if (length >= OVERHEAD && datagram[15] % 7) {
            put_le32(datagram, TRANSPORT);
            put_le32(datagram + 4, 7);
            put_le64(datagram + 8, n);
        } else if (length >= OVERHEAD && datagram[14] % 2) {
            length = datagram[13] % 2 ? 148 : 92;
            put_le32(datagram, datagram[13] % 2 ? 1 : 2);
            if (datagram[12] % 4)
                guard_mac1(guard, datagram, (uint32_t)length, datagram + length - 32);
            if (datagram[11] % 4)
                guard_mac2(guard, datagram, (uint32_t)length, &flow->origin, datagram + length - 16);
        }
        if (send(underlay[0], datagram, length, 0) < 0)
            break;
    }
    for (int stop = 0;;) {
        stop = batch_inflow(flow, 1e-9);
        CHECK(flow->count <= ENTRIES && flow->at <= flow->size);
        if (stop == UNKNOWN) {
            CHECK(flow->start + flow->length <= flow->at);
            batch_lane(flow, opener);
            flow->pending = 0;
            flow->left = 0;
        } else if (stop == UNSENT) {
            CHECK(flow->opener == opener && flow->unknowns <= flow->count);
            for (uint32_t n = 0; n < flow->unknowns; n++) {
                CHECK(flow->unknown[n] < flow->count);
                if (n % 2)
                    flow->packets[flow->unknown[n]].length = 0;
                else
                    batch_know(opener, flow->arena + flow->packets[flow->unknown[n]].offset);
            }
        } else if (stop == TIME) {
            break;
        } else {
            CHECK(stop == WORKED);
        }
        flow->worked = flow->urgent = 0;
    }
    CHECK(!flow->failed);
    while (recv(underlay[0], answer, sizeof answer, 0) >= 0)
        ;
    batch_guard_free(guard);
    free(flow->queue);
    free(flow->next);
    free(flow->unknown);
    free(flow->packets);
    free(flow->arena);
    free(flow);
    batch_opener_free(opener);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    switch (data[0] % 5) {
    case 0:
        outbound(data + 1, size - 1);
        break;
    case 3:
        outflow(data + 1, size - 1);
        break;
    case 4:
        inflow(data + 1, size - 1);
        break;
    default:
        inbound(data + 1, size - 1, data[0] % 5 == 1);
    }
    return 0;
}
