/* Are a device's cooperative matrices right, and faster than without them? Drivers have advertised them that are neither
 * (llama.cpp issues 24404 and 24005; lavapipe 26.2 is several times slower with them). */
#ifndef VKM_OPS_PROBE_H
#define VKM_OPS_PROBE_H

#include "gpu/context.h"

/* Runs products of small integers, whose sums are exact in any order, in all three forms with plain kernels and with
 * cooperative matrices of `type`; sets caps.cm[type].use where each value is the same and the time is less. Once for a
 * context; nothing to do where the device has none. Fails only as memory and submissions do. */
enum vkmoe_status vkm_gemm_probe(struct vkmoe_context *ctx, uint32_t type);

#endif
