/* Rows of numbers that come from a host and go to one, and their losses. */
#include "ops/tiles.h"

/* The bytes from the first element to the last. */
static struct vkm_buf extent(const struct vkm_host_rows *h)
{
    uint64_t size = h->type == TYPE_F32 ? 4 : 2, elements = h->rows ? (uint64_t)(h->rows - 1) * h->stride + h->width : 0;
    return (struct vkm_buf){.addr = h->addr, .bytes = elements * size};
}

void vkm_op_host_read(struct vkm_rec *rec, const struct vkm_host_rows *host, struct vkm_buf packed, uint32_t all)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    uint32_t wg = vkm_tiles(ctx).flat_wg;
    struct vkm_host_rows_args args = {host->addr, packed.addr, all, host->rows, host->width, host->stride};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("host.read", VKM_KERNEL_HOST_READ, wg, args),
        .groups = vkm_groups(ctx, vkm_div_up((uint64_t)all * host->width, wg)), .read = {extent(host)}, .write = {packed}};
    if (host->type != TYPE_F32)
        vkm_dispatch_narrow(&dispatch, VKM_KERNEL_HOST_READ_16, host->type);
    vkm_rec_dispatch(rec, &dispatch);
}

void vkm_op_host_write(struct vkm_rec *rec, struct vkm_buf packed, const struct vkm_host_rows *host)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    uint32_t wg = vkm_tiles(ctx).flat_wg;
    struct vkm_host_rows_args args = {host->addr, packed.addr, host->rows, host->rows, host->width, host->stride};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("host.write", VKM_KERNEL_HOST_WRITE, wg, args),
        .groups = vkm_groups(ctx, vkm_div_up((uint64_t)host->rows * host->width, wg)), .read = {packed},
        .write = {extent(host)}};
    if (host->type != TYPE_F32)
        vkm_dispatch_narrow(&dispatch, VKM_KERNEL_HOST_WRITE_16, host->type);
    vkm_rec_dispatch(rec, &dispatch);
}

void vkm_op_mse(struct vkm_rec *rec, struct vkm_buf y, struct vkm_buf target, struct vkm_buf dy, struct vkm_buf loss,
                struct vkm_buf loss_scale, uint32_t T, uint32_t O, float scale)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_mse_args args = {y.addr, target.addr, dy.addr, loss.addr, loss_scale.addr, T, O, scale};
    struct vkm_buf read = y.addr == dy.addr ? (struct vkm_buf){0} : y; /* in place: it stands among what is written */
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("mse", VKM_KERNEL_MSE, vkm_tiles(ctx).row_wg, args),
        .groups = vkm_groups(ctx, T), .read = {target, loss_scale, read}, .write = {dy, loss}});
}

void vkm_op_scale(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf y, struct vkm_buf loss_scale, uint64_t count)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    uint32_t wg = vkm_tiles(ctx).flat_wg;
    struct vkm_scale_args args = {x.addr, y.addr, loss_scale.addr, (uint32_t)count};
    struct vkm_buf read = x.addr == y.addr ? (struct vkm_buf){0} : x;
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("scale", VKM_KERNEL_SCALE, wg, args), .groups = vkm_groups(ctx, vkm_div_up(count, wg)),
        .read = {loss_scale, read}, .write = {y}});
}
