/* Compute pipelines: made when first asked for, kept until the context ends, their compiled form kept on disk. */
#ifndef VKM_GPU_PIPELINE_H
#define VKM_GPU_PIPELINE_H

#include "gpu/context.h"
#include "shader_table.h" /* generated from shaders/meson.build: enum vkm_kernel {VKM_KERNEL_<NAME>..., VKM_KERNEL_COUNT} */

struct vkm_pipeline {
    VkPipeline handle;
    VkPipelineLayout layout;        /* one for all kernels: 128 bytes of push constants, no descriptor sets */
};

/* cache_dir may be NULL. A missing, foreign or corrupt cache file is ignored and rewritten. */
enum vkmoe_status vkm_pipelines_create(struct vkmoe_context *ctx, const char *cache_dir, struct vkm_pipelines **out);

/* Writes the disk cache (temporary name, rename) if anything new was compiled, then frees. Accepts NULL. */
void vkm_pipelines_destroy(struct vkmoe_context *ctx, struct vkm_pipelines *pipelines);

/* The pipeline of a kernel with specialization constants spec[0..count) and subgroups of that many lanes (0: caps.subgroup),
 * compiled on first use. */
enum vkmoe_status vkm_pipeline_get(struct vkmoe_context *ctx, enum vkm_kernel kernel, const uint32_t *spec,
                                   uint32_t count, uint32_t subgroup, struct vkm_pipeline *out);

#endif
