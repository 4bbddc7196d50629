/*
 * Copyright: (c) 2026, Sennit contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The Internet checksum (RFC 1071); see checksum.py.
 */

#include "batch.h"

uint32_t words_sum(const uint8_t *data, size_t length)
{
    /* Words of the machine's own byte order, of 32 bits in sums of 64: byte order only multiplies the sum by 256. */
    uint64_t sums[4] = {0, 0, 0, 0};
    uint64_t sum = 0;
    while (length >= 16) {
        uint32_t words[4];
        memcpy(words, data, 16);
        for (int lane = 0; lane < 4; lane++)
            sums[lane] += words[lane];
        data += 16;
        length -= 16;
    }
    for (int lane = 0; lane < 4; lane++)
        sum += sums[lane] % 65535;
    while (length >= 2) {
        sum += native16(data);
        data += 2;
        length -= 2;
    }
    if (length) {
        uint8_t last[2] = {data[0], 0};
        sum += native16(last);
    }
    sum %= 65535;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    sum = sum * 256 % 65535;
#endif
    return (uint32_t)sum;
}

uint32_t checksum(uint64_t sum) { return (65535 - (uint32_t)(sum % 65535)) % 65535; }

uint32_t checksum_not_0(uint64_t sum) { return 65535 - (uint32_t)(sum % 65535); }
