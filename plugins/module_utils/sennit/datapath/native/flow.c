/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What both loops wait by.
 */

#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <poll.h>
#include <time.h>

#include "flow.h"

int commands_wait(const struct channel *channels)
{
    for (int n = 0; n < CHANNELS && channels[n].sent; n++)
        if (*channels[n].sent != channels[n].received)
            return 1;
    return 0;
}

double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int wait_for(int fd, const struct channel *channels, double deadline)
{
    struct pollfd ready[1 + CHANNELS] = {{.fd = fd, .events = POLLIN}};
    nfds_t descriptors = 1;
    int timeout = -1;
    for (int n = 0; n < CHANNELS && channels[n].sent; n++)
        ready[descriptors++] = (struct pollfd){.fd = channels[n].fd, .events = POLLIN};
    if (deadline > 0) {
        const double left = (deadline - monotonic()) * 1000;
        if (left <= 0)
            return TIME;
        timeout = (int)left + 1;
    }
    const int count = poll(ready, descriptors, timeout);
    if (count == 0)
        return TIME;
    if (count < 0) /* a signal: Python has it, and comes back */
        return COMMANDS;
    for (nfds_t n = 1; n < descriptors; n++)
        if (ready[n].revents)
            return COMMANDS;
    return -1;
}
