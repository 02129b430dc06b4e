/* Buffers, pipelines and the command buffer. */
#include "gpu.h"

#include <stdio.h>

/* The first memory type among `types` with all of `flags`; UINT32_MAX: none. */
static uint32_t memory_type(const struct gpu *gpu, uint32_t types, VkMemoryPropertyFlags flags)
{
    for (uint32_t i = 0; i < gpu->memory.memoryTypeCount; i++)
        if (types >> i & 1 && (gpu->memory.memoryTypes[i].propertyFlags & flags) == flags)
            return i;
    return UINT32_MAX;
}

static uint32_t choose_memory(const struct gpu *gpu, uint32_t types, bool on_host)
{
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const uint32_t best = memory_type(
        gpu, types, on_host ? host | VK_MEMORY_PROPERTY_HOST_CACHED_BIT : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    return best != UINT32_MAX ? best : memory_type(gpu, types, on_host ? host : 0);
}

bool gpu_buffer(struct gpu *gpu, VkDeviceSize bytes, bool on_host, struct buffer *out)
{
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                     .size = bytes,
                                     .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                              VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT |
                                              VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    const VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                             .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkMemoryAllocateInfo memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .pNext = &flags};
    VkBufferDeviceAddressInfo address = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO};
    VkMemoryRequirements needs;
    if (!gpu_check(vkCreateBuffer(gpu->device, &info, NULL, &out->buffer), "vkCreateBuffer"))
        return false;
    vkGetBufferMemoryRequirements(gpu->device, out->buffer, &needs);
    memory.allocationSize = needs.size;
    memory.memoryTypeIndex = choose_memory(gpu, needs.memoryTypeBits, on_host);
    if (memory.memoryTypeIndex == UINT32_MAX)
        return gpu_check(VK_ERROR_OUT_OF_DEVICE_MEMORY, "choosing a memory type");
    if (!gpu_check(vkAllocateMemory(gpu->device, &memory, NULL, &out->memory), "vkAllocateMemory") ||
        !gpu_check(vkBindBufferMemory(gpu->device, out->buffer, out->memory, 0), "vkBindBufferMemory"))
        return false;
    if (on_host && !gpu_check(vkMapMemory(gpu->device, out->memory, 0, VK_WHOLE_SIZE, 0, &out->host), "vkMapMemory"))
        return false;
    address.buffer = out->buffer;
    out->address = vkGetBufferDeviceAddress(gpu->device, &address);
    out->bytes = bytes;
    return true;
}

void gpu_buffer_free(struct gpu *gpu, struct buffer *buffer)
{
    vkDestroyBuffer(gpu->device, buffer->buffer, NULL);
    vkFreeMemory(gpu->device, buffer->memory, NULL);
    *buffer = (struct buffer){0};
}

VkPipeline gpu_pipeline(struct gpu *gpu, const uint32_t *code, size_t bytes)
{
    const VkShaderModuleCreateInfo module = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = bytes, .pCode = code};
    VkComputePipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                        .layout = gpu->layout,
                                        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                  .pName = "main"}};
    VkPipeline pipeline = VK_NULL_HANDLE;
    if (!gpu_check(vkCreateShaderModule(gpu->device, &module, NULL, &info.stage.module), "vkCreateShaderModule"))
        return VK_NULL_HANDLE;
    gpu_check(vkCreateComputePipelines(gpu->device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline),
              "vkCreateComputePipelines");
    vkDestroyShaderModule(gpu->device, info.stage.module, NULL);
    return pipeline;
}

bool gpu_begin(struct gpu *gpu)
{
    const VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                           .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    return gpu_check(vkBeginCommandBuffer(gpu->commands, &info), "vkBeginCommandBuffer");
}

void gpu_dispatch(struct gpu *gpu, VkPipeline pipeline, const void *push, uint32_t push_bytes, uint32_t threads)
{
    vkCmdBindPipeline(gpu->commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vkCmdPushConstants(gpu->commands, gpu->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, push_bytes, push);
    vkCmdDispatch(gpu->commands, (threads + 63) / 64, 1, 1);
}

void gpu_barrier(struct gpu *gpu, VkPipelineStageFlags2 from, VkAccessFlags2 written, VkPipelineStageFlags2 to,
                 VkAccessFlags2 used)
{
    const VkMemoryBarrier2 barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2,
                                      .srcStageMask = from,
                                      .srcAccessMask = written,
                                      .dstStageMask = to,
                                      .dstAccessMask = used};
    const VkDependencyInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO, .memoryBarrierCount = 1, .pMemoryBarriers = &barrier};
    vkCmdPipelineBarrier2(gpu->commands, &info);
}

bool gpu_submit(struct gpu *gpu, VkSemaphore wait, VkSemaphore signal)
{
    const VkCommandBufferSubmitInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
                                                .commandBuffer = gpu->commands};
    const VkSemaphoreSubmitInfo before = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
                                          .semaphore = wait,
                                          .stageMask = VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT};
    const VkSemaphoreSubmitInfo after = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
                                         .semaphore = signal,
                                         .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
    const VkSubmitInfo2 info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
                                .waitSemaphoreInfoCount = wait ? 1 : 0,
                                .pWaitSemaphoreInfos = &before,
                                .commandBufferInfoCount = 1,
                                .pCommandBufferInfos = &commands,
                                .signalSemaphoreInfoCount = signal ? 1 : 0,
                                .pSignalSemaphoreInfos = &after};
    return gpu_check(vkEndCommandBuffer(gpu->commands), "vkEndCommandBuffer") &&
           gpu_check(vkQueueSubmit2(gpu->queue, 1, &info, gpu->fence), "vkQueueSubmit2");
}

bool gpu_wait(struct gpu *gpu)
{
    return gpu_check(vkWaitForFences(gpu->device, 1, &gpu->fence, VK_TRUE, UINT64_MAX), "vkWaitForFences") &&
           gpu_check(vkResetFences(gpu->device, 1, &gpu->fence), "vkResetFences");
}
