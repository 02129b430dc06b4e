/* Times of GPU operations, from timestamps that the recorder writes: a trace file and a summary per operation. */
#ifndef VKM_GPU_PROFILER_H
#define VKM_GPU_PROFILER_H

#include "gpu/context.h"

/* Opens a temporary file beside `path`, so that a path that cannot be written is found out now. ERROR_IO;
 * ERROR_DEVICE when the device has no timestamps. */
enum vkmoe_status vkm_profiler_create(struct vkmoe_context *ctx, const char *path, struct vkm_profiler **out);

/* Writes the trace to its path and the summary to the log. Accepts NULL. */
void vkm_profiler_destroy(struct vkmoe_context *ctx, struct vkm_profiler *profiler);

/* Notes an operation that was recorded; its number, or UINT32_MAX when memory is short (it then is not profiled).
 * recording and label are static, prefix is copied. */
uint32_t vkm_profiler_site(struct vkm_profiler *profiler, const char *recording, const char *prefix, const char *label,
                           uint64_t flops);

/* One execution of the operation: it began when everything before it had finished. Ticks are raw timestamps. */
void vkm_profiler_add(struct vkm_profiler *profiler, uint32_t site, uint64_t begin, uint64_t end);

#endif
