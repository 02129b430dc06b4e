/* Two timestamps of the device, around whatever is submitted between them. */
#ifndef VKMOE_BENCH_STAMPS_H
#define VKMOE_BENCH_STAMPS_H

#include "gpu/context.h"

struct stamps;

/* The device has timestamps. */
enum vkmoe_status stamps_create(struct vkmoe_context *ctx, struct stamps **out);
/* Accepts NULL. The device must not be using it. */
void stamps_destroy(struct vkmoe_context *ctx, struct stamps *stamps);

/* The first comes when all submitted before has finished, and so does the second. */
enum vkmoe_status stamps_first(struct vkmoe_context *ctx, struct stamps *stamps);
enum vkmoe_status stamps_second(struct vkmoe_context *ctx, struct stamps *stamps);
/* Waits for both. */
enum vkmoe_status stamps_seconds(struct vkmoe_context *ctx, struct stamps *stamps, double *seconds);

#endif
