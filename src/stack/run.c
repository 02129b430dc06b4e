/* A stack on host memory: the same recordings as a host's command buffer gets, on arrays of our own. */
#include <string.h>

#include "stack/stack.h"

void vkm_stack_own_destroy(struct vkm_stack_own *own)
{
    for (int i = 0; i < VKM_STACK_RUNS; i++)
        vkm_rec_destroy(own->runs[i].rec);
    vkm_arena_destroy(own->upload);
    vkm_arena_destroy(own->readback);
    *own = (struct vkm_stack_own){0};
}

static struct vkm_host_rows packed(struct vkm_buf buf, uint32_t rows, uint32_t width)
{
    return (struct vkm_host_rows){.addr = buf.addr, .rows = rows, .width = width, .stride = width};
}

static enum vkmoe_status allocate(struct vkmoe_stack *s)
{
    const struct vkmoe_stack_config *c = &s->config;
    struct vkm_stack_own *own = &s->own;
    const uint64_t rows = c->rows > c->batch ? c->rows : c->batch, K = c->top_k, word = sizeof(float);
    const uint64_t in = vkm_stack_in(s), out = vkm_stack_out(s);
    enum vkmoe_status status;
    if (own->readback)
        return VKMOE_OK;
    if ((status = vkm_arena_create(s->ctx, "stack's rows", VKM_MEMORY_UPLOAD, &own->upload)))
        return status;
    if ((status = vkm_arena_create(s->ctx, "stack's results", VKM_MEMORY_READBACK, &own->readback)))
        goto fail;
    vkm_arena_reserve(own->upload, "rows", rows * in * word, &own->in);
    vkm_arena_reserve(own->upload, "targets", rows * out * word, &own->target);
    vkm_arena_reserve(own->readback, "results", rows * (in > out ? in : out) * word, &own->out);
    vkm_arena_reserve(own->readback, "experts", c->layers * rows * K * word, &own->experts);
    vkm_arena_reserve(own->readback, "gates", c->layers * rows * K * word, &own->gates);
    if (!(status = vkm_arena_commit(own->upload)) && !(status = vkm_arena_commit(own->readback)))
        return VKMOE_OK;
fail:
    vkm_stack_own_destroy(own);
    return status;
}

static void record(struct vkm_rec *rec, struct vkmoe_stack *s, enum vkm_stack_run what)
{
    const struct vkmoe_stack_config *c = &s->config;
    const struct vkm_stack_own *own = &s->own;
    const uint32_t rows = what == VKM_STACK_FORWARD ? c->rows : c->batch;
    const struct vkm_host_rows in = packed(own->in, rows, vkm_stack_in(s));
    const struct vkm_host_rows target = packed(own->target, rows, vkm_stack_target(s));
    const struct vkm_host_rows dout = packed(own->target, rows, vkm_stack_out(s));
    const struct vkm_host_rows none = {0}, din = packed(own->out, rows, vkm_stack_in(s));
    struct vkm_stack_arrays arrays = {.in = in, .out = packed(own->out, rows, vkm_stack_out(s))};
    switch (what) {
    case VKM_STACK_STEP:
        vkm_stack_step(rec, s, &in, &target);
        break;
    case VKM_STACK_FORWARD:
        arrays.experts = packed(own->experts, rows, c->top_k);
        arrays.gates = packed(own->gates, rows, c->top_k);
        vkm_stack_forward(rec, s, &arrays);
        break;
    case VKM_STACK_KEPT:
        vkm_stack_forward_kept(rec, s, &arrays);
        break;
    case VKM_STACK_BACKWARD:
        vkm_stack_backward(rec, s, &dout, c->precision == VKMOE_F16 ? &none : &din);
        break;
    case VKM_STACK_UPDATE:
        vkm_stack_update(rec, s);
        break;
    case VKM_STACK_RUNS:
        break;
    }
}

/* Records it where that has not been done, or another learning rate is in it. */
static enum vkmoe_status recorded(struct vkmoe_stack *s, enum vkm_stack_run what)
{
    static const char *const names[] = {"stack step", "stack forward", "stack forward", "stack backward", "stack update"};
    const bool has_lr = what == VKM_STACK_STEP || what == VKM_STACK_UPDATE;
    struct vkm_rec **rec = &s->own.runs[what].rec;
    enum vkmoe_status status;
    if (*rec && (!has_lr || s->own.runs[what].lr == s->lr))
        return VKMOE_OK;
    vkm_rec_destroy(*rec);
    if ((status = vkm_rec_create(s->ctx, names[what], rec)))
        return status;
    record(*rec, s, what);
    if ((status = vkm_rec_end(*rec))) {
        vkm_rec_destroy(*rec);
        *rec = NULL;
    }
    s->own.runs[what].lr = s->lr;
    return status;
}

static enum vkmoe_status run(struct vkmoe_stack *s, enum vkm_stack_run what)
{
    uint64_t ticket;
    enum vkmoe_status status = recorded(s, what);
    if (!status)
        status = vkm_rec_submit(s->own.runs[what].rec, &ticket);
    return status ? status : vkm_wait(s->ctx, ticket);
}

enum vkmoe_status vkmoe_stack_step(struct vkmoe_stack *s, const float *in, const void *target,
                                   struct vkmoe_stack_report *report)
{
    const uint64_t rows = s->config.batch;
    enum vkmoe_status status = vkm_stack_trains(s, "vkmoe_stack_step");
    if (!status && (s->kept || s->accumulated))
        return vkm_fail(&s->ctx->log, VKMOE_ERROR_ARGUMENT, "vkmoe_stack_step: a step of the caller's own was begun; end it with "
                        "vkmoe_stack_update");
    if (status || (status = allocate(s)))
        return status;
    const uint32_t *classes = target;
    for (uint64_t i = 0; i < rows && s->config.loss == VKMOE_STACK_CROSS_ENTROPY; i++)
        if (classes[i] >= s->config.d_out)
            return vkm_fail(&s->ctx->log, VKMOE_ERROR_ARGUMENT, "vkmoe_stack_step: target[%llu] is class %u of %u",
                            (unsigned long long)i, classes[i], s->config.d_out);
    memcpy(s->own.in.host, in, rows * vkm_stack_in(s) * sizeof(float));
    memcpy(s->own.target.host, target, rows * vkm_stack_target(s) * sizeof(float));
    if (!(status = run(s, VKM_STACK_STEP)) && report)
        vkm_stack_read_report(s, report);
    return status;
}

/* Rows of a chunk [chunk, width], for each layer, into the caller's array of all rows. */
static void take(const struct vkmoe_stack *s, const struct vkm_buf *from, void *to, uint64_t all, uint64_t first,
                 uint64_t count)
{
    const uint64_t row = s->config.top_k * sizeof(uint32_t);
    for (uint64_t layer = 0; layer < s->config.layers; layer++)
        memcpy((char *)to + (layer * all + first) * row, (const char *)from->host + layer * s->config.rows * row, count * row);
}

enum vkmoe_status vkmoe_stack_forward(struct vkmoe_stack *s, uint64_t rows, const float *in, float *out, uint32_t *experts,
                                      float *gates)
{
    const uint64_t I = vkm_stack_in(s), O = vkm_stack_out(s), most = s->config.rows;
    enum vkmoe_status status = allocate(s);
    for (uint64_t first = 0; first < rows && !status; first += most) {
        const uint64_t count = rows - first < most ? rows - first : most;
        memcpy(s->own.in.host, in + first * I, count * I * sizeof(float));
        memset((float *)s->own.in.host + count * I, 0, (most - count) * I * sizeof(float));
        if ((status = run(s, VKM_STACK_FORWARD)))
            break;
        if (out)
            memcpy(out + first * O, s->own.out.host, count * O * sizeof(float));
        if (experts)
            take(s, &s->own.experts, experts, rows, first, count);
        if (gates)
            take(s, &s->own.gates, gates, rows, first, count);
    }
    return status;
}

enum vkmoe_status vkmoe_stack_forward_kept(struct vkmoe_stack *s, const float *in, float *out)
{
    const uint64_t rows = s->config.batch;
    enum vkmoe_status status = vkm_stack_trains(s, "vkmoe_stack_forward_kept");
    if (status || (status = allocate(s)))
        return status;
    memcpy(s->own.in.host, in, rows * vkm_stack_in(s) * sizeof(float));
    if ((status = run(s, VKM_STACK_KEPT)))
        return status;
    s->kept = true;
    if (out)
        memcpy(out, s->own.out.host, rows * vkm_stack_out(s) * sizeof(float));
    return VKMOE_OK;
}

enum vkmoe_status vkmoe_stack_backward(struct vkmoe_stack *s, const float *dout, float *din)
{
    const uint64_t rows = s->config.batch;
    enum vkmoe_status status = vkm_stack_trains(s, "vkmoe_stack_backward");
    if (status)
        return status;
    if (!s->kept)
        return vkm_fail(&s->ctx->log, VKMOE_ERROR_ARGUMENT, "vkmoe_stack_backward: nothing was kept; call vkmoe_stack_forward_kept "
                        "before it");
    if (din && s->config.precision == VKMOE_F16)
        return vkm_fail(&s->ctx->log, VKMOE_ERROR_ARGUMENT, "vkmoe_stack_backward: din is not there in f16; use bf16 or f32");
    memcpy(s->own.target.host, dout, rows * vkm_stack_out(s) * sizeof(float));
    if ((status = run(s, VKM_STACK_BACKWARD)))
        return status;
    s->kept = false;
    s->accumulated = true;
    if (din)
        memcpy(din, s->own.out.host, rows * vkm_stack_in(s) * sizeof(float));
    return VKMOE_OK;
}

enum vkmoe_status vkmoe_stack_update(struct vkmoe_stack *s, struct vkmoe_stack_report *report)
{
    enum vkmoe_status status = vkm_stack_trains(s, "vkmoe_stack_update");
    if (status)
        return status;
    if (!s->accumulated)
        return vkm_fail(&s->ctx->log, VKMOE_ERROR_ARGUMENT, "vkmoe_stack_update: there is no gradient; call vkmoe_stack_backward "
                        "before it");
    if ((status = run(s, VKM_STACK_UPDATE)))
        return status;
    s->accumulated = false;
    if (report)
        vkm_stack_read_report(s, report);
    return VKMOE_OK;
}
