#include "narrow.h"

#include <string.h>

#include "shared.h"

static const struct ref_narrow roundings[] = {[TYPE_F16] = {0x1p-10, 0x1p-14}, [TYPE_BF16] = {0x1p-8, NUM_TINY}};

uint16_t narrow_draw(uint32_t type, uint32_t word)
{
    const uint32_t sign = word & 0x8000, fraction = word >> 16;
    if (type == TYPE_F16)
        return (uint16_t)(sign | (15 - 1 - (word & 3)) << 10 | (fraction & 1023));
    return (uint16_t)(sign | (127 - 1 - (word & 3)) << 7 | (fraction & 127));
}

float narrow_value(uint32_t type, uint16_t bits)
{
    float f;
    uint32_t word = (uint32_t)bits << 16;
    if (type == TYPE_F16) {
        const int exponent = bits >> 10 & 31, fraction = bits & 1023;
        f = exponent == 31 ? (fraction ? NAN : INFINITY)
                           : (float)ldexp(exponent ? 1024 + fraction : fraction, (exponent ? exponent : 1) - 25);
        return bits & 0x8000 ? -f : f;
    }
    memcpy(&f, &word, sizeof f);
    return f;
}

struct ref_narrow narrow_rounding(uint32_t type)
{
    return roundings[type];
}

static double rounding(uint32_t type, double v)
{
    return roundings[type].relative * fabs(v) + roundings[type].absolute;
}

struct num narrow_operand(uint32_t type, struct num x)
{
    return num_within(x.v, rounding(type, x.v));
}

struct num narrow_stored(uint32_t type, struct num x)
{
    return (struct num){x.v, x.e + rounding(type, fabs(x.v) + x.e), INFINITY};
}

void narrow_allow_cutting(size_t n, size_t count, const struct num *sizes, struct num *x)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (struct num){x[i].v, x[i].e + 2 * NUM_U * (double)n * sizes[i].v, INFINITY};
}
