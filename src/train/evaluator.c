#include "train/evaluator.h"

#include <stdlib.h>
#include <string.h>

struct vkm_evaluator {
    struct vkm_net *net;
    struct vkm_arena *upload, *device, *readback;
    struct vkm_buf tok[VKM_SLOTS], target[VKM_SLOTS]; /* [T] u32 */
    struct vkm_buf sum;                               /* f32 loss, struct router_stats [L], expert_tokens [L,E] u32 */
    struct vkm_buf result[VKM_SLOTS];                 /* a copy */
    struct vkm_rec *rec[VKM_SLOTS];
    uint64_t ticket[VKM_SLOTS];                       /* 0: nothing in flight */
};

static uint64_t stats_bytes(const struct vkm_net *net)
{
    return net->config.layers * sizeof(struct router_stats);
}

static uint64_t count_bytes(const struct vkm_net *net)
{
    return (uint64_t)net->config.layers * net->config.experts * sizeof(uint32_t);
}

enum vkmoe_status vkm_evaluator_create(struct vkm_net *net, struct vkm_evaluator **out)
{
    enum vkmoe_status status;
    *out = NULL;
    struct vkm_evaluator *e = calloc(1, sizeof *e);
    if (!e)
        return vkm_fail_memory(&net->ctx->log);
    e->net = net;
    if ((status = vkm_arena_create(net->ctx, "evaluation input", VKM_MEMORY_UPLOAD, &e->upload)) ||
        (status = vkm_arena_create(net->ctx, "evaluation", VKM_MEMORY_DEVICE, &e->device)) ||
        (status = vkm_arena_create(net->ctx, "evaluation output", VKM_MEMORY_READBACK, &e->readback))) {
        vkm_evaluator_destroy(e);
        return status;
    }
    for (int slot = 0; slot < VKM_SLOTS; slot++) {
        vkm_arena_reserve(e->upload, "tokens", net->T * sizeof(uint32_t), &e->tok[slot]);
        vkm_arena_reserve(e->upload, "targets", net->T * sizeof(uint32_t), &e->target[slot]);
        vkm_arena_reserve(e->readback, "result", sizeof(float) + stats_bytes(net) + count_bytes(net), &e->result[slot]);
    }
    vkm_arena_reserve(e->device, "result", sizeof(float) + stats_bytes(net) + count_bytes(net), &e->sum);
    *out = e;
    return VKMOE_OK;
}

uint64_t vkm_evaluator_bytes(const struct vkm_evaluator *e)
{
    return vkm_arena_bytes(e->upload) + vkm_arena_bytes(e->device) + vkm_arena_bytes(e->readback);
}

static void measure(void *user, struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct vkm_evaluator *e = user;
    uint64_t bytes = sizeof(struct router_stats);
    vkm_measure_router(rec, net, layer, vkm_buf_slice(e->sum, sizeof(float) + layer * bytes, bytes));
}

enum vkmoe_status vkm_evaluator_commit(struct vkm_evaluator *e)
{
    enum vkmoe_status status;
    if ((status = vkm_arena_commit(e->upload)) || (status = vkm_arena_commit(e->device)) ||
        (status = vkm_arena_commit(e->readback)))
        return status;
    const struct vkm_observer observer = {measure, e};
    struct vkm_buf loss = vkm_buf_slice(e->sum, 0, sizeof(float));
    struct vkm_buf counts = vkm_buf_slice(e->sum, sizeof(float) + stats_bytes(e->net), count_bytes(e->net));
    for (int slot = 0; slot < VKM_SLOTS; slot++) {
        if ((status = vkm_rec_create(e->net->ctx, "evaluate", &e->rec[slot])))
            return status;
        vkm_rec_fill(e->rec[slot], e->sum, 0);
        vkm_net_forward(e->rec[slot], e->net, e->tok[slot], counts, &observer);
        vkm_net_loss(e->rec[slot], e->net, e->target[slot], &(struct vkm_loss){.loss_sum = loss});
        vkm_rec_copy(e->rec[slot], e->result[slot], e->sum);
        if ((status = vkm_rec_end(e->rec[slot])))
            return status;
    }
    return VKMOE_OK;
}

void vkm_evaluator_destroy(struct vkm_evaluator *e)
{
    if (!e)
        return;
    for (int slot = 0; slot < VKM_SLOTS; slot++)
        vkm_rec_destroy(e->rec[slot]);
    vkm_arena_destroy(e->upload);
    vkm_arena_destroy(e->device);
    vkm_arena_destroy(e->readback);
    free(e);
}

/* Adds the slot's result, if it has one in flight. */
static enum vkmoe_status collect(struct vkm_evaluator *e, int slot, struct vkm_layer_sums *sums, double *sum)
{
    if (!e->ticket[slot])
        return VKMOE_OK;
    enum vkmoe_status status = vkm_wait(e->net->ctx, e->ticket[slot]);
    e->ticket[slot] = 0;
    if (status)
        return status;
    const char *result = e->result[slot].host;
    float loss;
    memcpy(&loss, result, sizeof loss);
    *sum += loss;
    result += sizeof loss;
    vkm_layer_sums_add(sums, (const struct router_stats *)result, (const uint32_t *)(result + stats_bytes(e->net)),
                       e->net->B);
    return VKMOE_OK;
}

enum vkmoe_status vkm_evaluator_run(struct vkm_evaluator *e, const struct vkmoe_data *data, enum vkm_split split,
                                    uint64_t max_tokens, struct vkm_layer_sums *sums, double *sum, uint64_t *count)
{
    uint32_t S = e->net->config.seq, B = e->net->B;
    uint64_t windows = vkm_data_windows(data, split, S), wanted = windows;
    if (max_tokens && max_tokens / S < windows)
        wanted = max_tokens / S ? max_tokens / S : 1;
    enum vkmoe_status status = VKMOE_OK;
    int slot = 0;
    vkm_layer_sums_clear(sums);
    *sum = 0;
    *count = 0;
    for (uint64_t first = 0; first < wanted && !status; first += B, slot = (slot + 1) % VKM_SLOTS) {
        if ((status = collect(e, slot, sums, sum)))
            break;
        uint32_t *tok = e->tok[slot].host, *target = e->target[slot].host;
        for (uint32_t b = 0; b < B; b++) {
            uint64_t at = first + b < wanted ? (first + b) * windows / wanted : windows + first + b;
            *count += vkm_data_window(data, split, at, S, tok + (size_t)b * S, target + (size_t)b * S);
        }
        status = vkm_rec_submit(e->rec[slot], &e->ticket[slot]);
    }
    for (int i = 0; i < VKM_SLOTS; i++, slot = (slot + 1) % VKM_SLOTS) {
        enum vkmoe_status last = collect(e, slot, sums, sum);
        status = status ? status : last;
    }
    return status;
}
