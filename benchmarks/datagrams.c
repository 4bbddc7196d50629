/*
 * UDP at a steady rate, and a count of what arrives. It costs little beside what it measures: many datagrams a call.
 *
 *     datagrams receive ADDRESS PORT                  counts; for each line on its input, says the count since the last
 *     datagrams send ADDRESS PORT SIZE RATE SECONDS   says how many it sent, and in how many seconds
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, ROOM = 2048, BUFFER = 32 << 20, QUIET_MS = 200, TICK_NS = 500000, LATE_TICKS = 2 };

static char buffers[BATCH][ROOM];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

static void prepare(size_t size)
{
    for (int n = 0; n < BATCH; n++) {
        parts[n] = (struct iovec){buffers[n], size};
        messages[n].msg_hdr = (struct msghdr){.msg_iov = &parts[n], .msg_iovlen = 1};
    }
}

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int receive(int fd)
{
    struct pollfd waits[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    unsigned long count = 0;
    char line[16];
    prepare(ROOM);
    puts("ready");
    for (;;) {
        fflush(stdout);
        if (poll(waits, 2, -1) < 0)
            return fail("poll");
        if (waits[1].revents) {
            if (!fgets(line, sizeof line, stdin))
                return 0;
            /* What is still on its way counts. */
            while (poll(waits, 1, QUIET_MS) > 0) {
                const int got = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
                count += got > 0 ? (unsigned long)got : 0;
            }
            printf("%lu\n", count);
            count = 0;
        } else {
            const int got = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
            count += got > 0 ? (unsigned long)got : 0;
        }
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int send_at(int fd, size_t size, double rate, double seconds)
{
    const double tick = TICK_NS / 1e9, start = now();
    double next = start, owed = 0, time;
    unsigned long count = 0;
    prepare(size);
    while ((time = now()) < start + seconds) {
        if (time < next) {
            const struct timespec rest = {0, (long)((next - time) * 1e9)};
            nanosleep(&rest, NULL);
            continue;
        }
        /* A sender that was held up does not make up for it in one burst, which would be another load than asked for. */
        if (time - next > LATE_TICKS * tick)
            next = time;
        next += tick;
        for (owed += rate * tick; owed >= 1;) {
            const int sent = sendmmsg(fd, messages, owed < BATCH ? (unsigned)owed : BATCH, 0);
            if (sent < 0)
                return fail("sendmmsg");
            owed -= sent;
            count += (unsigned long)sent;
        }
    }
    printf("%lu %.6f\n", count, now() - start);
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    const int size = BUFFER, fd = socket(AF_INET, SOCK_DGRAM, 0);
    const int sends = argc == 7 && !strcmp(argv[1], "send");
    if (fd < 0 || (!sends && argc != 4) || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1)
        return fail("usage");
    address.sin_port = htons((uint16_t)atoi(argv[3]));
    setsockopt(fd, SOL_SOCKET, sends ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, &size, sizeof size);
    if ((sends ? connect : bind)(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return fail(sends ? "connect" : "bind");
    return sends ? send_at(fd, (size_t)atoi(argv[4]), atof(argv[5]), atof(argv[6])) : receive(fd);
}
