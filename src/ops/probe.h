/* What a device can do but may not do well. Are its cooperative matrices right, and faster than without them? Drivers have
 * advertised them that are neither (llama.cpp issues 24404 and 24005; lavapipe 26.2 is several times slower with them). */
#ifndef VKM_OPS_PROBE_H
#define VKM_OPS_PROBE_H

#include "gpu/context.h"

/* What of the following products with operands of `type` can use, once for a context. Fails only as memory and submissions do. */
enum vkmoe_status vkm_probe(struct vkmoe_context *ctx, uint32_t type);

/* Loads numbers side by side both ways; sets caps.lanes to VKM_LANES_DEPTH where the sums are the same and loading them
 * together (lanes.glsl) is faster. */
enum { VKM_LANES_DEPTH = 128 };
enum vkmoe_status vkm_lanes_probe(struct vkmoe_context *ctx);

/* Runs products of small integers, whose sums are exact in any order, in all three forms with plain kernels and with
 * cooperative matrices of `type`; sets caps.cm[type].use where each value is the same and the time is less. Then the same of attention. */
enum vkmoe_status vkm_cm_probe(struct vkmoe_context *ctx, uint32_t type);

/* Runs attention and its backward without and with them, on numbers that 16 bits hold and whose scores are exact; sets
 * caps.cm[type].use_attention where o and dqkv of one head are as far from double precision as the rounding of weights and of
 * their gradients allows, and the time is less. vkm_cm_probe calls it. */
enum vkmoe_status vkm_attention_probe(struct vkmoe_context *ctx, uint32_t type);

#endif
