/* Are a device's cooperative matrices right, and faster than without them? Drivers have advertised them that are neither
 * (llama.cpp issues 24404 and 24005; lavapipe 26.2 is several times slower with them). */
#ifndef VKM_OPS_PROBE_H
#define VKM_OPS_PROBE_H

#include "gpu/context.h"

/* Both of the following, once for a context; nothing to do where the device has no such matrices. Fails only as memory and
 * submissions do.
 *
 * Runs products of small integers, whose sums are exact in any order, in all three forms with plain kernels and with
 * cooperative matrices of `type`; sets caps.cm[type].use where each value is the same and the time is less. */
enum vkmoe_status vkm_cm_probe(struct vkmoe_context *ctx, uint32_t type);

/* Runs attention and its backward without and with them, on numbers that 16 bits hold and whose scores are exact; sets
 * caps.cm[type].use_attention where o and dqkv of one head are as far from double precision as the rounding of weights and of
 * their gradients allows, and the time is less. vkm_cm_probe calls it. */
enum vkmoe_status vkm_attention_probe(struct vkmoe_context *ctx, uint32_t type);

#endif
