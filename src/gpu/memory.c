#include "gpu/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t mib = 1024 * 1024;

struct item {
    const char *name;
    struct vkm_buf *out;
    uint64_t bytes;
    size_t block;
    uint64_t offset;
};

struct block {
    uint64_t used;                  /* by buffers, each padded to VKM_BUF_ALIGN */
    VkDeviceMemory memory;
    VkBuffer buffer;
    uint64_t addr;                  /* of offset 0 */
    uint8_t *host;
};

struct vkm_arena {
    struct vkmoe_context *ctx;
    const char *name;
    enum vkm_memory memory;
    enum vkmoe_status status;       /* first failure of reserve */
    bool committed;
    struct item *items;
    size_t item_count, item_capacity;
    struct block *blocks;
    size_t block_count;
};

struct vkm_buf vkm_buf_slice(struct vkm_buf b, uint64_t offset, uint64_t bytes)
{
    assert(offset <= b.bytes && bytes <= b.bytes - offset);
    b.offset += offset;
    b.addr += offset;
    b.bytes = bytes;
    if (b.host)
        b.host = (uint8_t *)b.host + offset;
    return b;
}

enum vkmoe_status vkm_arena_create(struct vkmoe_context *ctx, const char *name, enum vkm_memory memory,
                                   struct vkm_arena **out)
{
    *out = NULL;
    struct vkm_arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return vkm_fail_memory(&ctx->log);
    arena->ctx = ctx;
    arena->name = name;
    arena->memory = memory;
    *out = arena;
    return VKMOE_OK;
}

/* What of a block buffers can use. Room is left for aligning the first address, and for a driver that rounds up. */
static uint64_t usable_block(const struct vkmoe_context *ctx)
{
    uint64_t reserve = VKM_BLOCK_SLACK + VKM_BUF_ALIGN;
    uint64_t block = ctx->caps.max_block & ~(uint64_t)(VKM_BLOCK_SLACK - 1);
    return block > reserve ? (block - reserve) & ~(uint64_t)(VKM_BUF_ALIGN - 1) : 0;
}

static uint64_t block_bytes(const struct block *block)
{
    return block->used + VKM_BUF_ALIGN + VKM_BLOCK_SLACK;
}

static enum vkmoe_status grow(struct vkm_arena *arena, bool new_block)
{
    if (arena->item_count == arena->item_capacity) {
        size_t capacity = arena->item_capacity ? 2 * arena->item_capacity : 32;
        struct item *items = realloc(arena->items, capacity * sizeof *items);
        if (!items)
            return vkm_fail_memory(&arena->ctx->log);
        arena->items = items;
        arena->item_capacity = capacity;
    }
    if (new_block) {
        struct block *blocks = realloc(arena->blocks, (arena->block_count + 1) * sizeof *blocks);
        if (!blocks)
            return vkm_fail_memory(&arena->ctx->log);
        arena->blocks = blocks;
        arena->blocks[arena->block_count++] = (struct block){0};
    }
    return VKMOE_OK;
}

void vkm_arena_reserve(struct vkm_arena *arena, const char *name, uint64_t bytes, struct vkm_buf *out)
{
    *out = (struct vkm_buf){0};
    if (arena->status)
        return;
    uint64_t limit = usable_block(arena->ctx);
    if (!bytes || arena->committed) {
        arena->status = vkm_fail(&arena->ctx->log, VKMOE_ERROR_ARGUMENT, "arena %s: buffer %s: %s", arena->name, name,
                                 bytes ? "the arena is already committed" : "its size is 0");
        return;
    }
    if (bytes > limit) {
        arena->status = vkm_fail(&arena->ctx->log, VKMOE_ERROR_DEVICE_MEMORY, "arena %s: buffer %s needs %.1f MiB; one "
                                 "buffer can have %.1f MiB on %s: use a smaller model or batch", arena->name, name,
                                 (double)bytes / (double)mib, (double)limit / (double)mib, arena->ctx->info.name);
        return;
    }
    uint64_t padded = (bytes + VKM_BUF_ALIGN - 1) & ~(uint64_t)(VKM_BUF_ALIGN - 1);
    bool new_block = !arena->block_count || padded > limit - arena->blocks[arena->block_count - 1].used;
    if ((arena->status = grow(arena, new_block)))
        return;
    struct block *block = &arena->blocks[arena->block_count - 1];
    arena->items[arena->item_count++] = (struct item){name, out, bytes, arena->block_count - 1, block->used};
    block->used += padded;
}

enum vkmoe_status vkm_arena_status(const struct vkm_arena *arena)
{
    return arena->status;
}

uint64_t vkm_arena_bytes(const struct vkm_arena *arena)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < arena->block_count; i++)
        bytes += block_bytes(&arena->blocks[i]);
    return bytes;
}

/* How well a memory type serves; negative: not at all. */
static int score(enum vkm_memory memory, const VkMemoryType *type, uint64_t heap_bytes, uint64_t largest_local)
{
    const VkMemoryPropertyFlags coherent = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const VkMemoryPropertyFlags known = coherent | VK_MEMORY_PROPERTY_HOST_CACHED_BIT |
                                        VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    VkMemoryPropertyFlags flags = type->propertyFlags;
    bool local = flags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, cached = flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    if (flags & ~known) /* protected, lazily allocated, vendors' own: each needs a feature of its own */
        return -1;
    switch (memory) {
    case VKM_MEMORY_DEVICE:
        return local ? 2 * (heap_bytes == largest_local) + !(flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) : -1;
    case VKM_MEMORY_UPLOAD:
        return (flags & coherent) == coherent ? 2 * local + !cached : -1;
    case VKM_MEMORY_READBACK:
        return (flags & coherent) == coherent ? 2 * cached + !local : -1;
    }
    return -1;
}

/* Memory types that the buffer takes, best first; the order of the driver among equals. */
static uint32_t candidates(const struct vkmoe_context *ctx, enum vkm_memory memory, uint32_t allowed,
                           uint32_t out[static VK_MAX_MEMORY_TYPES])
{
    const VkPhysicalDeviceMemoryProperties *props = &ctx->memory;
    uint32_t count = 0;
    for (int wanted = 3; wanted >= 0; wanted--)
        for (uint32_t i = 0; i < props->memoryTypeCount; i++)
            if ((allowed >> i & 1) && score(memory, &props->memoryTypes[i],
                                            props->memoryHeaps[props->memoryTypes[i].heapIndex].size,
                                            ctx->info.memory_bytes) == wanted)
                out[count++] = i;
    return count;
}

static VkResult allocate(struct vkm_arena *arena, struct block *block)
{
    struct vkmoe_context *ctx = arena->ctx;
    struct vkm_vk *vk = &ctx->vk;
    uint32_t types[VK_MAX_MEMORY_TYPES];
    VkMemoryRequirements wants;
    const VkBufferCreateInfo buffer_info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = block_bytes(block),
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT |
                 VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                 VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT,
    };
    VkResult result = vk->CreateBuffer(vk->device, &buffer_info, ctx->allocator, &block->buffer);
    if (result)
        return result;
    vkm_name_object(ctx, VK_OBJECT_TYPE_BUFFER, (uint64_t)block->buffer, arena->name);
    vk->GetBufferMemoryRequirements(vk->device, block->buffer, &wants);

    const VkMemoryAllocateFlagsInfo flags = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
        .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT,
    };
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &flags,
        .allocationSize = wants.size,
    };
    uint32_t count = candidates(ctx, arena->memory, wants.memoryTypeBits, types);
    result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    for (uint32_t i = 0; i < count && result; i++) {
        info.memoryTypeIndex = types[i];
        result = vk->AllocateMemory(vk->device, &info, ctx->allocator, &block->memory);
    }
    if (!result && arena->memory == VKM_MEMORY_DEVICE)
        ctx->allocated += block_bytes(block);
    if (result || (result = vk->BindBufferMemory(vk->device, block->buffer, block->memory, 0)))
        return result;

    const VkBufferDeviceAddressInfo address = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
        .buffer = block->buffer,
    };
    block->addr = vk->GetBufferDeviceAddress(vk->device, &address);
    const VkMemoryPropertyFlags mappable = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    void *host = NULL;
    if ((ctx->memory.memoryTypes[info.memoryTypeIndex].propertyFlags & mappable) == mappable)
        result = vk->MapMemory(vk->device, block->memory, 0, VK_WHOLE_SIZE, 0, &host);
    block->host = host;
    return result;
}

static void free_blocks(struct vkm_arena *arena)
{
    struct vkm_vk *vk = &arena->ctx->vk;
    for (size_t i = 0; i < arena->block_count && !arena->ctx->hung; i++) {
        struct block *block = &arena->blocks[i];
        if (block->buffer)
            vk->DestroyBuffer(vk->device, block->buffer, arena->ctx->allocator);
        if (block->memory) /* unmaps it */
            vk->FreeMemory(vk->device, block->memory, arena->ctx->allocator);
        if (block->memory && arena->memory == VKM_MEMORY_DEVICE)
            arena->ctx->allocated -= block_bytes(block);
        *block = (struct block){.used = block->used};
    }
}

static enum vkmoe_status fail_allocation(const struct vkm_arena *arena, VkResult result, uint64_t available)
{
    if (result != VK_ERROR_OUT_OF_DEVICE_MEMORY && result != VK_ERROR_OUT_OF_HOST_MEMORY &&
        result != VK_ERROR_MEMORY_MAP_FAILED)
        return vkm_check(arena->ctx, result, "vkAllocateMemory");
    return vkm_fail(&arena->ctx->log, VKMOE_ERROR_DEVICE_MEMORY, "arena %s needs %.1f MiB in %zu block(s); %s has %.1f "
                    "MiB left: use a smaller model, batch or context, or close other programs", arena->name,
                    (double)vkm_arena_bytes(arena) / (double)mib, arena->block_count, arena->ctx->info.name,
                    (double)available / (double)mib);
}

enum vkmoe_status vkm_arena_commit(struct vkm_arena *arena)
{
    struct vkmoe_context *ctx = arena->ctx;
    if (arena->status)
        return arena->status;
    /* Software devices promise memory that the system does not have: asking first avoids being killed later. */
    uint64_t available = vkm_memory_available(ctx);
    if ((arena->memory == VKM_MEMORY_DEVICE || ctx->caps.cpu) && vkm_arena_bytes(arena) > available)
        return arena->status = fail_allocation(arena, VK_ERROR_OUT_OF_DEVICE_MEMORY, available);
    for (size_t i = 0; i < arena->block_count; i++) {
        VkResult result = allocate(arena, &arena->blocks[i]);
        if (result) {
            free_blocks(arena);
            return arena->status = fail_allocation(arena, result, available);
        }
    }
    for (size_t i = 0; i < arena->item_count; i++) {
        const struct item *item = &arena->items[i];
        const struct block *block = &arena->blocks[item->block];
        uint64_t offset = item->offset + (-block->addr & (VKM_BUF_ALIGN - 1));
        *item->out = (struct vkm_buf){
            .handle = block->buffer,
            .offset = offset,
            .bytes = item->bytes,
            .addr = block->addr + offset,
            .host = block->host ? block->host + offset : NULL,
        };
    }
    arena->committed = true;
    return VKMOE_OK;
}

void vkm_arena_destroy(struct vkm_arena *arena)
{
    if (!arena)
        return;
    free_blocks(arena);
    free(arena->blocks);
    free(arena->items);
    free(arena);
}
