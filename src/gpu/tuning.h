/* What `vkmoe tune` found out about a device, kept beside its compiled pipelines:
 *
 *   tuning-<device UUID>.json  {"format": 1, "driver": "...", "gemm": [{"type": "f32"|"f16"|"bf16", "rows": "few"|"many",
 *                               "bm", "bn", "bk", "tm", "tn", "wg"}...]}                                          */
#ifndef VKM_GPU_TUNING_H
#define VKM_GPU_TUNING_H

#include "gpu/context.h"

/* Reads ctx->tuning. dir may be NULL. No file, or one of another driver or format: nothing is tuned. A file that cannot be
 * read or understood: a warning, nothing is tuned. ERROR_MEMORY. */
enum vkmoe_status vkm_tuning_load(struct vkmoe_context *ctx, const char *dir);
/* Writes it; *path, where it was written, is the caller's to free. ERROR_IO, ERROR_MEMORY. */
enum vkmoe_status vkm_tuning_save(const struct vkmoe_context *ctx, const char *dir, char **path);

#endif
