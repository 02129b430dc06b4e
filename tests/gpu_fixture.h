/* What tests of the Vulkan runtime share. */
#ifndef VKMOE_TESTS_GPU_FIXTURE_H
#define VKMOE_TESTS_GPU_FIXTURE_H

#include "gpu/memory.h"
#include "gpu/recorder.h"
#include "shared.h"

#include <criterion/criterion.h>

/* What was logged so far. */
extern struct seen {
    char last[1024];                /* newest error or warning */
    char all[16384];                /* information lines */
    unsigned errors, warnings;
} seen;
extern const struct vkmoe_log test_log;

/* Whether tests run under the validation layers: where VKMOE_VALIDATE is set. */
bool validating(void);

/* A context on the default device, under the validation layers where `validating`. Skips the test when there is no device,
 * unless VKMOE_REQUIRE_DEVICE is set. */
struct vkmoe_context *open_context(void);
struct vkmoe_context *open_desc(struct vkmoe_context_desc desc);

/* Destroys it. As many errors as `expected`, which the test provoked, may have been logged; validation is silent. */
void close_context(struct vkmoe_context *ctx, unsigned expected);

struct vkm_arena *arena(struct vkmoe_context *ctx, enum vkm_memory memory);

/* An arena with three buffers. */
struct three {
    struct vkm_arena *arena;
    struct vkm_buf a, b, c;
};
struct three three(struct vkmoe_context *ctx, uint64_t bytes);

struct vkm_rec *recording(struct vkmoe_context *ctx);

/* The fill kernel; as far as the recorder knows it reads `read` (may be zero). */
struct vkm_dispatch fill(struct vkmoe_context *ctx, struct vkm_fill_args *args, struct vkm_buf dst, uint32_t value,
                         struct vkm_buf read);
void record_fill(struct vkmoe_context *ctx, struct vkm_rec *rec, struct vkm_buf dst, uint32_t value,
                 struct vkm_buf read);

/* Ends, submits and waits. */
void run(struct vkmoe_context *ctx, struct vkm_rec *rec);

/* Every word of buf, downloaded. */
void expect_words(struct vkmoe_context *ctx, struct vkm_buf buf, uint32_t value);

#endif
