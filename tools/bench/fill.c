#include "bench/fill.h"

#include <stdlib.h>

#include "cases/cases.h"
#include "cases/narrow.h"
#include "shared.h"

/* What repeats itself. */
static uint64_t piece_of(struct vkm_buf buf)
{
    const uint64_t most = 4 << 20;
    return buf.bytes < most ? buf.bytes : most;
}

static uint16_t bits16(const struct bench_fill *fill, uint64_t i)
{
    return narrow_draw(fill->type, case_index(fill->seed, i, UINT32_MAX));
}

float bench_filled(const struct bench_fill *fill, struct vkm_buf buf, uint64_t i)
{
    if (fill->type == TYPE_F32)
        return case_value(fill->seed, i % (piece_of(buf) / sizeof(float)), fill->scale);
    return narrow_value(fill->type, bits16(fill, i % (piece_of(buf) / sizeof(uint16_t))));
}

/* A buffer full of copies of x [bytes], a part of it that repeats itself. */
static enum vkmoe_status fill_by(struct vkmoe_context *ctx, struct vkm_buf buf, const void *x, uint64_t bytes)
{
    struct vkm_rec *rec;
    enum vkmoe_status status = vkm_buf_upload(ctx, buf, x, bytes);
    if (status || bytes == buf.bytes || (status = vkm_rec_create(ctx, "bench fill", &rec)))
        return status;
    for (uint64_t done = bytes, n; done < buf.bytes; done += n) {
        n = buf.bytes - done < done ? buf.bytes - done : done;
        vkm_rec_copy(rec, vkm_buf_slice(buf, done, n), vkm_buf_slice(buf, 0, n));
    }
    return vkm_rec_run_once(rec);
}

enum vkmoe_status bench_fill(struct vkmoe_context *ctx, struct vkm_buf buf, const struct bench_fill *fill)
{
    const uint64_t bytes = piece_of(buf);
    void *x = malloc(bytes);
    if (!x)
        return vkm_fail_memory(&ctx->log);
    if (fill->type == TYPE_F32)
        case_fill(x, bytes / sizeof(float), fill->seed, fill->scale);
    for (uint64_t i = 0; fill->type != TYPE_F32 && i < bytes / sizeof(uint16_t); i++)
        ((uint16_t *)x)[i] = bits16(fill, i);
    const enum vkmoe_status status = fill_by(ctx, buf, x, bytes);
    free(x);
    return status;
}
