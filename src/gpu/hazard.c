#include "gpu/hazard.h"

#include <stdlib.h>

static bool overlaps(const struct vkm_ranges *ranges, const struct vkm_buf *buf)
{
    for (size_t i = 0; i < ranges->count; i++)
        if (buf->addr < ranges->list[i].end && ranges->list[i].begin < buf->addr + buf->bytes)
            return true;
    return false;
}

bool vkm_hazards_found(const struct vkm_hazards *hazards, const struct vkm_buf *reads, uint32_t read_count,
                       const struct vkm_buf *writes, uint32_t write_count)
{
    for (uint32_t i = 0; i < read_count; i++)
        if (overlaps(&hazards->writes, &reads[i]))
            return true;
    for (uint32_t i = 0; i < write_count; i++)
        if (overlaps(&hazards->writes, &writes[i]) || overlaps(&hazards->reads, &writes[i]))
            return true;
    return false;
}

static bool add(struct vkm_ranges *ranges, const struct vkm_buf *list, uint32_t count)
{
    if (ranges->count + count > ranges->capacity) {
        size_t capacity = 2 * ranges->capacity + 64;
        struct vkm_range *bigger = realloc(ranges->list, capacity * sizeof *bigger);
        if (!bigger)
            return false;
        ranges->list = bigger;
        ranges->capacity = capacity;
    }
    for (uint32_t i = 0; i < count; i++)
        ranges->list[ranges->count++] = (struct vkm_range){list[i].addr, list[i].addr + list[i].bytes};
    return true;
}

bool vkm_hazards_add(struct vkm_hazards *hazards, const struct vkm_buf *reads, uint32_t read_count,
                     const struct vkm_buf *writes, uint32_t write_count)
{
    return add(&hazards->reads, reads, read_count) && add(&hazards->writes, writes, write_count);
}

void vkm_hazards_forget(struct vkm_hazards *hazards)
{
    hazards->reads.count = 0;
    hazards->writes.count = 0;
}

void vkm_hazards_clear(struct vkm_hazards *hazards)
{
    free(hazards->reads.list);
    free(hazards->writes.list);
    *hazards = (struct vkm_hazards){0};
}
