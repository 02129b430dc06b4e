#include "base/utf8.h"

#include <stdbool.h>

static bool begin(struct vkm_utf8 *state, unsigned char byte)
{
    *state = (struct vkm_utf8){.due = 1, .low = 0x80, .high = 0xBF};
    if (byte < 0xC2 || byte > 0xF4)
        return false;
    if (byte >= 0xE0)
        state->due = byte < 0xF0 ? 2 : 3;
    switch (byte) {
    case 0xE0: state->low = 0xA0; break;    /* shorter forms exist below */
    case 0xED: state->high = 0x9F; break;   /* surrogates above */
    case 0xF0: state->low = 0x90; break;
    case 0xF4: state->high = 0x8F; break;   /* U+10FFFF is the last */
    }
    return true;
}

size_t vkm_utf8_check(struct vkm_utf8 *state, const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (state->due) {
            if (bytes[i] < state->low || bytes[i] > state->high)
                return i;
            *state = (struct vkm_utf8){.due = (uint8_t)(state->due - 1), .low = 0x80, .high = 0xBF};
        } else if (bytes[i] >= 0x80 && !begin(state, bytes[i])) {
            return i;
        }
    }
    return count;
}
