/* Column sums in one pass or two, in a fixed order. */
#ifndef VKM_OPS_COLSUM_H
#define VKM_OPS_COLSUM_H

#include "ops/ops.h"

/* out [cols] = (accumulate: +=) sum over rows of x * y * s, x and y [rows,cols], s [rows]; y and s may be absent.
 * scratch: vkm_colsum_scratch bytes, which
 * may be 0. */
void vkm_op_colsum(struct vkm_rec *rec, const char *label, struct vkm_buf x, struct vkm_buf y, struct vkm_buf s,
                   struct vkm_buf out, struct vkm_buf scratch, uint32_t rows, uint32_t cols, bool accumulate);
uint64_t vkm_colsum_scratch(uint32_t rows, uint32_t cols);

#endif
