/* Address ranges read and written since the last barrier. */
#ifndef VKM_GPU_HAZARD_H
#define VKM_GPU_HAZARD_H

#include "gpu/memory.h"

struct vkm_ranges {
    struct vkm_range {
        uint64_t begin, end;
    } *list;
    size_t count, capacity;
};

struct vkm_hazards {
    struct vkm_ranges reads, writes;
};

/* Whether these accesses, made by one command, must come after one noted before. */
bool vkm_hazards_found(const struct vkm_hazards *hazards, const struct vkm_buf *reads, uint32_t read_count,
                       const struct vkm_buf *writes, uint32_t write_count);

/* Notes accesses. false: out of host memory. */
bool vkm_hazards_add(struct vkm_hazards *hazards, const struct vkm_buf *reads, uint32_t read_count,
                     const struct vkm_buf *writes, uint32_t write_count);

/* After a barrier: nothing is noted any more. */
void vkm_hazards_forget(struct vkm_hazards *hazards);

/* Frees the lists. */
void vkm_hazards_clear(struct vkm_hazards *hazards);

#endif
