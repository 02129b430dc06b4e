/* UTF-8 checked piece by piece. */
#ifndef VKM_BASE_UTF8_H
#define VKM_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Between pieces: how many continuation bytes are still due, and the range of the next. A zero one is at the start. */
struct vkm_utf8 {
    uint8_t due, low, high;
};

/* Index of the first byte of bytes[count] that cannot stand there (RFC 3629: no surrogates, no overlong forms, nothing
 * above U+10FFFF), or count. At the end of the text, state->due must be 0. */
size_t vkm_utf8_check(struct vkm_utf8 *state, const unsigned char *bytes, size_t count);

#endif
