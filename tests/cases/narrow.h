/* Numbers in 16 bits, `type` TYPE_F16 or TYPE_BF16: random ones, what they are worth, and how far what was rounded to them, or
 * summed up by cooperative matrices, may be from the reference. */
#ifndef VKM_CASES_NARROW_H
#define VKM_CASES_NARROW_H

#include "oracle/oracle.h"

/* A number of magnitude between 1/16 and 1, from 32 random bits. */
uint16_t narrow_draw(uint32_t type, uint32_t word);
float narrow_value(uint32_t type, uint16_t bits);

/* How a value is rounded on the way to 16 bits: in whichever direction (Vulkan leaves f16's open), or flushed where it is
 * subnormal. */
struct ref_narrow narrow_rounding(uint32_t type);
/* An exact value as an operand of a product. */
struct num narrow_operand(uint32_t type, struct num x);
/* A result that is stored in 16 bits. */
struct num narrow_stored(uint32_t type, struct num x);

/* Cooperative matrices may add up in any order and by cutting off: up to 2 u of the sum so far at each of n terms, which
 * all have one sign at worst. x [count] are the sums, sizes [count] those of the terms' magnitudes. */
void narrow_allow_cutting(size_t n, size_t count, const struct num *sizes, struct num *x);

#endif
