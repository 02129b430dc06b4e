/* The compiled pipelines' file: <cache_dir>/<device uuid>-<driver version>.bin. */
#ifndef VKM_GPU_PIPELINE_CACHE_H
#define VKM_GPU_PIPELINE_CACHE_H

#include "gpu/context.h"

struct vkm_pipeline_file {
    char *dir, *path;               /* NULL: nothing is kept on disk */
    uint64_t loaded;                /* checksum of what was read; 0: nothing was */
};

/* Creates *cache, filled from the file when it is there, whole, and this driver's. cache_dir may be NULL. */
enum vkmoe_status vkm_pipeline_file_load(struct vkmoe_context *ctx, const char *cache_dir,
                                         struct vkm_pipeline_file *file, VkPipelineCache *cache);

/* Writes the file if the cache is not what was read; a failure is a warning. */
void vkm_pipeline_file_save(const struct vkmoe_context *ctx, struct vkm_pipeline_file *file, VkPipelineCache cache);

/* The file itself: the data of a whole one of this driver, which the caller frees, else NULL. */
uint8_t *vkm_pipeline_data_read(const char *path, const uint8_t driver[VK_UUID_SIZE], size_t *bytes, uint64_t *sum);
/* Writes it whole or not at all. false: errno says why. */
bool vkm_pipeline_data_write(const char *path, const uint8_t driver[VK_UUID_SIZE], const uint8_t *data, size_t bytes);

/* Frees the names. */
void vkm_pipeline_file_clear(struct vkm_pipeline_file *file);

#endif
