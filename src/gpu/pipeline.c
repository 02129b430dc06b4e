#include "gpu/pipeline.h"

#include "gpu/pipeline_cache.h"
#include "gpu/recorder.h"
#include "shared.h"

#include <stdlib.h>
#include <string.h>

enum { PUSH_BYTES = 128 };
_Static_assert(SPEC_ALONE >= VKM_MAX_SPEC, "no kernel's own constant");

struct entry {
    enum vkm_kernel kernel;
    uint32_t count;
    uint32_t spec[VKM_MAX_SPEC];
    uint32_t subgroup;
    VkPipeline handle;
};

struct vkm_pipelines {
    VkPipelineLayout layout;
    VkPipelineCache cache;
    struct vkm_pipeline_file file;
    struct entry *entries;
    size_t count, capacity;
};

enum vkmoe_status vkm_pipelines_create(struct vkmoe_context *ctx, const char *cache_dir, struct vkm_pipelines **out)
{
    enum vkmoe_status status;
    *out = NULL;
    struct vkm_pipelines *pipelines = calloc(1, sizeof *pipelines);
    if (!pipelines)
        return vkm_fail_memory(&ctx->log);

    const VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = PUSH_BYTES};
    const VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &push,
    };
    if ((status = vkm_check(ctx, ctx->vk.CreatePipelineLayout(ctx->vk.device, &info, ctx->allocator, &pipelines->layout),
                            "vkCreatePipelineLayout")) ||
        (status = vkm_pipeline_file_load(ctx, cache_dir, &pipelines->file, &pipelines->cache))) {
        vkm_pipelines_destroy(ctx, pipelines);
        return status;
    }
    *out = pipelines;
    return VKMOE_OK;
}

void vkm_pipelines_destroy(struct vkmoe_context *ctx, struct vkm_pipelines *pipelines)
{
    if (!pipelines)
        return;
    if (pipelines->count && !ctx->lost)
        vkm_pipeline_file_save(ctx, &pipelines->file, pipelines->cache);
    for (size_t i = 0; i < pipelines->count && !ctx->hung; i++)
        ctx->vk.DestroyPipeline(ctx->vk.device, pipelines->entries[i].handle, ctx->allocator);
    if (pipelines->cache && !ctx->hung)
        ctx->vk.DestroyPipelineCache(ctx->vk.device, pipelines->cache, ctx->allocator);
    if (pipelines->layout && !ctx->hung)
        ctx->vk.DestroyPipelineLayout(ctx->vk.device, pipelines->layout, ctx->allocator);
    vkm_pipeline_file_clear(&pipelines->file);
    free(pipelines->entries);
    free(pipelines);
}

static enum vkmoe_status compile(struct vkmoe_context *ctx, struct entry *entry)
{
    const struct vkm_shader *shader = &vkm_shaders[entry->kernel];
    const VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = shader->bytes,
        .pCode = shader->words,
    };
    VkShaderModule module;
    enum vkmoe_status status =
        vkm_check(ctx, ctx->vk.CreateShaderModule(ctx->vk.device, &module_info, ctx->allocator, &module), "vkCreateShaderModule");
    if (status)
        return status;

    VkSpecializationMapEntry map[VKM_MAX_SPEC + 1];
    uint32_t values[VKM_MAX_SPEC + 1], count = entry->count;
    for (uint32_t i = 0; i <= count; i++)
        map[i] = (VkSpecializationMapEntry){.constantID = i < count ? i : SPEC_ALONE, .offset = i * 4, .size = 4};
    memcpy(values, entry->spec, sizeof entry->spec);
    values[count] = ctx->caps.cpu && entry->spec[0] == entry->subgroup;
    const VkSpecializationInfo spec = {
        .mapEntryCount = count + 1,
        .pMapEntries = map,
        .dataSize = (count + 1) * sizeof *values,
        .pData = values,
    };
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = entry->subgroup,
    };
    bool full = ctx->caps.full_subgroups && entry->count && entry->spec[0] % entry->subgroup == 0;
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {
            .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
            .pNext = ctx->caps.subgroup_required ? &subgroup : NULL,
            .flags = full ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
            .stage = VK_SHADER_STAGE_COMPUTE_BIT,
            .module = module,
            .pName = "main",
            .pSpecializationInfo = &spec,
        },
        .layout = ctx->pipelines->layout,
    };
    VkResult result =
        ctx->vk.CreateComputePipelines(ctx->vk.device, ctx->pipelines->cache, 1, &info, ctx->allocator, &entry->handle);
    ctx->vk.DestroyShaderModule(ctx->vk.device, module, ctx->allocator);
    if (result) {
        char name[32];
        return vkm_fail(&ctx->log, result == VK_ERROR_OUT_OF_HOST_MEMORY ? VKMOE_ERROR_MEMORY : VKMOE_ERROR_VULKAN,
                        "the driver cannot compile kernel %s: %s; update the driver", shader->name,
                        vkm_vk_result_name(result, name));
    }
    vkm_name_object(ctx, VK_OBJECT_TYPE_PIPELINE, (uint64_t)entry->handle, shader->name);
    return VKMOE_OK;
}

enum vkmoe_status vkm_pipeline_get(struct vkmoe_context *ctx, enum vkm_kernel kernel, const uint32_t *spec,
                                   uint32_t count, uint32_t subgroup, struct vkm_pipeline *out)
{
    struct vkm_pipelines *pipelines = ctx->pipelines;
    subgroup = subgroup ? subgroup : ctx->caps.subgroup;
    *out = (struct vkm_pipeline){0};
    if ((unsigned)kernel >= VKM_KERNEL_COUNT || count > VKM_MAX_SPEC)
        return vkm_fail(&ctx->log, VKMOE_ERROR_ARGUMENT, "kernel %d with %u specialization constants: there are %d "
                        "kernels, with at most %d constants", (int)kernel, count, (int)VKM_KERNEL_COUNT, VKM_MAX_SPEC);

    for (size_t i = 0; i < pipelines->count; i++) {
        const struct entry *entry = &pipelines->entries[i];
        if (entry->kernel == kernel && entry->count == count && entry->subgroup == subgroup &&
            (!count || !memcmp(entry->spec, spec, count * sizeof *spec))) {
            *out = (struct vkm_pipeline){entry->handle, pipelines->layout};
            return VKMOE_OK;
        }
    }

    if (count && spec[0] > ctx->caps.max_invocations)
        return vkm_fail(&ctx->log, VKMOE_ERROR_ARGUMENT, "kernel %s: %u invocations in a workgroup; the device has %u",
                        vkm_shaders[kernel].name, spec[0], ctx->caps.max_invocations);
    if (pipelines->count == pipelines->capacity) {
        size_t capacity = pipelines->capacity ? 2 * pipelines->capacity : 64;
        struct entry *entries = realloc(pipelines->entries, capacity * sizeof *entries);
        if (!entries)
            return vkm_fail_memory(&ctx->log);
        pipelines->entries = entries;
        pipelines->capacity = capacity;
    }
    struct entry *entry = &pipelines->entries[pipelines->count];
    *entry = (struct entry){.kernel = kernel, .count = count, .subgroup = subgroup};
    if (count)
        memcpy(entry->spec, spec, count * sizeof *spec);
    enum vkmoe_status status = compile(ctx, entry);
    if (status)
        return status;
    pipelines->count++;
    *out = (struct vkm_pipeline){entry->handle, pipelines->layout};
    return VKMOE_OK;
}
