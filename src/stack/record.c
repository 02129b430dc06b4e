/* A stack in a command buffer of the host's, on arrays of the host's. */
#include <vkmoe/vulkan.h>

#include <stdlib.h>

#include "stack/stack.h"

_Static_assert((int)VKMOE_VULKAN_32 == TYPE_F32 && (int)VKMOE_VULKAN_F16 == TYPE_F16 && (int)VKMOE_VULKAN_BF16 == TYPE_BF16,
               "a host's types are those of arrays");

/* One argument being checked: the first failure is logged and latches. */
struct check {
    const struct vkmoe_stack *stack;
    const char *call;
    enum vkmoe_status status;
};

static void refuse(struct check *c, const char *name, const char *what)
{
    if (!c->status)
        c->status = vkm_fail(&c->stack->ctx->log, VKMOE_ERROR_ARGUMENT, "%s: %s %s", c->call, name, what);
}

/* The array as rows, of `layers` behind each other. Absent ones stay so unless required. */
static struct vkm_host_rows rows_of(struct check *c, const char *name, const struct vkmoe_vulkan_array *array, bool required,
                                    bool integers, uint32_t layers, uint32_t rows, uint32_t width)
{
    struct vkm_host_rows out = {.rows = rows, .width = width};
    if (!array || !array->address) {
        if (required)
            refuse(c, name, "is required: its address is 0");
        return out;
    }
    if ((unsigned)array->type > VKMOE_VULKAN_BF16 || (integers && array->type != VKMOE_VULKAN_32))
        refuse(c, name, integers ? "holds integers: its type must be VKMOE_VULKAN_32" : "has an unknown type");
    if (array->type != VKMOE_VULKAN_32 && !c->stack->ctx->caps.storage16)
        refuse(c, name, "is in 16 bits, which the device has no arrays of (storageBuffer16BitAccess)");
    if (c->status)
        return out;
    const uint64_t size = array->type == VKMOE_VULKAN_32 ? 4 : 2, row = size * width;
    const uint64_t stride = array->stride ? array->stride : row, all = (uint64_t)layers * rows;
    if (array->address % size || stride % size)
        refuse(c, name, "is misaligned: address and stride must be multiples of the element's size");
    else if (stride < row)
        refuse(c, name, "has a stride smaller than a row");
    else if (stride / size > UINT32_MAX / all)
        refuse(c, name, "spans 2^32 elements or more");
    else if (array->bytes < (all - 1) * stride + row)
        c->status = vkm_fail(&c->stack->ctx->log, VKMOE_ERROR_ARGUMENT, "%s: %s is too small: %llu bytes, %llu are needed", c->call,
                             name, (unsigned long long)array->bytes, (unsigned long long)((all - 1) * stride + row));
    out.addr = array->address;
    out.stride = (uint32_t)(stride / size);
    out.type = array->type;
    return out;
}

/* What a call records. */
struct recording {
    const struct vkmoe_stack *stack;
    struct vkm_stack_arrays arrays; /* of a forward; in alone of a step */
    struct vkm_host_rows target, dout, din;
    bool kept;
};

/* Records with `fn`, in the recorder's two passes. */
static enum vkmoe_status record(struct check *c, const struct vkmoe_vulkan_record *where, const char *name,
                                void (*fn)(struct vkm_rec *rec, const struct recording *r), const struct recording *r)
{
    struct vkm_rec *rec;
    if (!where->commands)
        refuse(c, "commands", "is required");
    if (c->status)
        return c->status;
    enum vkmoe_status status = vkm_rec_create_into(c->stack->ctx, name, where, &rec);
    if (status)
        return status;
    fn(rec, r);
    if (!(status = vkm_rec_again(rec))) {
        fn(rec, r);
        status = vkm_rec_end(rec);
    }
    vkm_rec_destroy(rec);
    return status;
}

static void forward(struct vkm_rec *rec, const struct recording *r)
{
    if (r->kept)
        vkm_stack_forward_kept(rec, r->stack, &r->arrays);
    else
        vkm_stack_forward(rec, r->stack, &r->arrays);
}

enum vkmoe_status vkmoe_vulkan_record_forward(struct vkmoe_stack *s, const struct vkmoe_vulkan_record *where,
                                              const struct vkmoe_vulkan_forward *f)
{
    const struct vkmoe_stack_config *config = &s->config;
    struct check c = {s, "vkmoe_vulkan_record_forward", VKMOE_OK};
    if (f->kept)
        c.status = vkm_stack_trains(s, c.call);
    if (!f->rows)
        refuse(&c, "rows", "must be 1 or more");
    else if (f->kept && f->rows != config->batch)
        refuse(&c, "rows", "must be the batch where the forward is kept");
    if (c.status)
        return c.status;
    const struct recording r = {
        .stack = s, .kept = f->kept,
        .arrays = {.in = rows_of(&c, "in", &f->in, true, false, 1, f->rows, vkm_stack_in(s)),
                   .out = rows_of(&c, "out", &f->out, false, false, 1, f->rows, vkm_stack_out(s)),
                   .experts = rows_of(&c, "experts", &f->experts, false, true, config->layers, f->rows, config->top_k),
                   .gates = rows_of(&c, "gates", &f->gates, false, false, config->layers, f->rows, config->top_k)}};
    return record(&c, where, "stack forward", forward, &r);
}

static void backward(struct vkm_rec *rec, const struct recording *r)
{
    vkm_stack_backward(rec, r->stack, &r->dout, &r->din);
}

enum vkmoe_status vkmoe_vulkan_record_backward(struct vkmoe_stack *s, const struct vkmoe_vulkan_record *where,
                                               const struct vkmoe_vulkan_array *dout, const struct vkmoe_vulkan_array *din)
{
    struct check c = {s, "vkmoe_vulkan_record_backward", VKMOE_OK};
    c.status = vkm_stack_trains(s, c.call);
    const struct recording r = {
        .stack = s, .dout = rows_of(&c, "dout", dout, true, false, 1, s->config.batch, vkm_stack_out(s)),
        .din = rows_of(&c, "din", din, false, false, 1, s->config.batch, vkm_stack_in(s))};
    if (r.din.addr && s->config.precision == VKMOE_F16)
        refuse(&c, "din", "is not there in f16; use bf16 or f32");
    return record(&c, where, "stack backward", backward, &r);
}

static void update(struct vkm_rec *rec, const struct recording *r)
{
    vkm_stack_update(rec, r->stack);
}

enum vkmoe_status vkmoe_vulkan_record_update(struct vkmoe_stack *s, const struct vkmoe_vulkan_record *where)
{
    struct check c = {s, "vkmoe_vulkan_record_update", VKMOE_OK};
    c.status = vkm_stack_trains(s, c.call);
    return record(&c, where, "stack update", update, &(struct recording){.stack = s});
}

static void step(struct vkm_rec *rec, const struct recording *r)
{
    vkm_stack_step(rec, r->stack, &r->arrays.in, &r->target);
}

enum vkmoe_status vkmoe_vulkan_record_step(struct vkmoe_stack *s, const struct vkmoe_vulkan_record *where,
                                           const struct vkmoe_vulkan_array *in, const struct vkmoe_vulkan_array *target)
{
    const bool classes = s->config.loss == VKMOE_STACK_CROSS_ENTROPY;
    struct check c = {s, "vkmoe_vulkan_record_step", VKMOE_OK};
    c.status = vkm_stack_trains(s, c.call);
    const struct recording r = {
        .stack = s, .arrays = {.in = rows_of(&c, "in", in, true, false, 1, s->config.batch, vkm_stack_in(s))},
        .target = rows_of(&c, "target", target, true, classes, 1, s->config.batch, vkm_stack_target(s))};
    return record(&c, where, "stack step", step, &r);
}

enum vkmoe_status vkmoe_vulkan_report(struct vkmoe_stack *s, struct vkmoe_stack_report *report)
{
    *report = (struct vkmoe_stack_report){0};
    enum vkmoe_status status = vkm_stack_trains(s, "vkmoe_vulkan_report");
    if (!status)
        vkm_stack_read_report(s, report);
    return status;
}
