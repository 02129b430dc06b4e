/* What a device can do but may not do well. Are its cooperative matrices right, and faster than without them? Drivers have
 * advertised them that are neither (llama.cpp issues 24404 and 24005; lavapipe 26.2 is several times slower with them). */
#ifndef VKM_OPS_PROBE_H
#define VKM_OPS_PROBE_H

#include "gpu/context.h"

/* Finds out, once for a context, what products with operands of `type` can use: for all types what vkm_lanes_probe does, for
 * 16-bit ones whether cooperative matrices multiply small integers, whose sums are exact in any order, to the same values as plain
 * kernels in all three forms, and in less time (caps.cm[type].use), then the same of attention. Fails only as memory and
 * submissions do. */
enum vkmoe_status vkm_probe(struct vkmoe_context *ctx, uint32_t type);

/* Loads numbers side by side both ways; sets caps.lanes to VKM_LANES_DEPTH where the sums are the same and loading them
 * together (lanes.glsl) is faster. */
enum { VKM_LANES_DEPTH = 128 };
enum vkmoe_status vkm_lanes_probe(struct vkmoe_context *ctx);

/* Runs attention and its backward without and with them, on numbers that 16 bits hold and whose scores are exact; sets
 * caps.cm[type].use_attention where o and dqkv of one head are as far from double precision as the rounding of weights and of
 * their gradients allows, and the time is less. vkm_probe calls it. */
enum vkmoe_status vkm_attention_probe(struct vkmoe_context *ctx, uint32_t type);

#endif
