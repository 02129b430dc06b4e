#include "gpu/pipeline_cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

/* Precedes the driver's data. Drivers check what they are given with varying care; a torn file must not reach them. */
struct header {
    char magic[8];
    uint8_t driver[VK_UUID_SIZE];   /* pipelineCacheUUID */
    uint64_t bytes;                 /* of the data that follows */
    uint64_t checksum;
};

#define MAGIC "vkmoePC1"
static const uint64_t max_bytes = UINT64_C(1) << 30;

/* FNV-1a */
static uint64_t checksum(const uint8_t *data, size_t bytes)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static bool read_bytes(int fd, void *to, size_t bytes)
{
    char *at = to;
    while (bytes > 0) {
        const ssize_t got = read(fd, at, bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        bytes -= (size_t)got;
    }
    return true;
}

uint8_t *vkm_pipeline_data_read(const char *path, const uint8_t driver[VK_UUID_SIZE], size_t *bytes, uint64_t *sum)
{
    struct header header;
    uint64_t size;
    int fd;
    if (vkm_file_open(NULL, path, &fd, &size))
        return NULL;
    uint8_t *data = NULL;
    /* The size is that of the file before anything is allocated by it. */
    const bool good = read_bytes(fd, &header, sizeof header) && !memcmp(header.magic, MAGIC, sizeof header.magic) &&
                      !memcmp(header.driver, driver, VK_UUID_SIZE) && header.bytes && header.bytes <= max_bytes &&
                      size == sizeof header + header.bytes && (data = malloc((size_t)header.bytes)) &&
                      read_bytes(fd, data, (size_t)header.bytes) && checksum(data, (size_t)header.bytes) == header.checksum;
    close(fd);
    if (!good) {
        free(data);
        return NULL;
    }
    *bytes = (size_t)header.bytes;
    *sum = header.checksum;
    return data;
}

enum vkmoe_status vkm_pipeline_file_load(struct vkmoe_context *ctx, const char *cache_dir,
                                         struct vkm_pipeline_file *file, VkPipelineCache *cache)
{
    uint8_t *data = NULL;
    size_t bytes = 0;
    file->loaded = 0;
    if (cache_dir) {
        VkPhysicalDeviceProperties props;
        char name[64];
        ctx->vk.GetPhysicalDeviceProperties(ctx->physical, &props);
        snprintf(name, sizeof name, "%s-%08x.bin", ctx->info.uuid, props.driverVersion);
        file->dir = vkm_path_join(cache_dir, "");
        file->path = vkm_path_join(cache_dir, name);
        if (!file->dir || !file->path)
            return vkm_fail_memory(&ctx->log);
        data = vkm_pipeline_data_read(file->path, props.pipelineCacheUUID, &bytes, &file->loaded);
    }
    VkPipelineCacheCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
        .initialDataSize = bytes,
        .pInitialData = data,
    };
    VkResult result = ctx->vk.CreatePipelineCache(ctx->vk.device, &info, ctx->allocator, cache);
    if (result && data) {
        info.initialDataSize = 0;
        file->loaded = 0;
        result = ctx->vk.CreatePipelineCache(ctx->vk.device, &info, ctx->allocator, cache);
    }
    free(data);
    return vkm_check(ctx, result, "vkCreatePipelineCache");
}

/* mkdir -p; path ends in '/' and is as before on return. */
static bool make_directories(char *path)
{
    for (char *c = path + 1; *c; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        int failed = mkdir(path, 0777) && errno != EEXIST;
        *c = '/';
        if (failed)
            return false;
    }
    return true;
}

/* false: errno says why. */
static bool write_file(const char *path, const struct header *header, const uint8_t *data)
{
    size_t bytes = strlen(path) + 32;
    char *temporary = malloc(bytes);
    if (!temporary)
        return false;
    snprintf(temporary, bytes, "%s.%ld.tmp", path, (long)getpid());
    FILE *file = fopen(temporary, "wb");
    bool good = file && fwrite(header, sizeof *header, 1, file) == 1 &&
                fwrite(data, 1, (size_t)header->bytes, file) == header->bytes;
    if (file && fclose(file))
        good = false;
    good = good && !rename(temporary, path);
    if (file && !good) {
        int reason = errno;
        remove(temporary);
        errno = reason;
    }
    free(temporary);
    return good;
}

bool vkm_pipeline_data_write(const char *path, const uint8_t driver[VK_UUID_SIZE], const uint8_t *data, size_t bytes)
{
    struct header header = {.bytes = bytes, .checksum = checksum(data, bytes)};
    memcpy(header.magic, MAGIC, sizeof header.magic);
    memcpy(header.driver, driver, VK_UUID_SIZE);
    return write_file(path, &header, data);
}

void vkm_pipeline_file_save(const struct vkmoe_context *ctx, struct vkm_pipeline_file *file, VkPipelineCache cache)
{
    size_t bytes = 0;
    if (!file->path || ctx->vk.GetPipelineCacheData(ctx->vk.device, cache, &bytes, NULL) || !bytes || bytes > max_bytes)
        return;
    uint8_t *data = malloc(bytes);
    if (data && !ctx->vk.GetPipelineCacheData(ctx->vk.device, cache, &bytes, data)) {
        VkPhysicalDeviceProperties props;
        ctx->vk.GetPhysicalDeviceProperties(ctx->physical, &props);
        if (checksum(data, bytes) != file->loaded &&
            (!make_directories(file->dir) || !vkm_pipeline_data_write(file->path, props.pipelineCacheUUID, data, bytes)))
            vkm_log(&ctx->log, VKMOE_LOG_WARNING, "cannot keep compiled pipelines in %s: %s; the next start compiles "
                    "them again", file->path, strerror(errno));
    }
    free(data);
}

void vkm_pipeline_file_clear(struct vkm_pipeline_file *file)
{
    free(file->dir);
    free(file->path);
    *file = (struct vkm_pipeline_file){0};
}
