#include "bench/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases/cases.h"

void op_reserve32(struct op *o, uint32_t i, uint64_t count)
{
    vkm_arena_reserve(o->arena, o->kind->name, count * sizeof(float), &o->x[i]);
}

void op_reserve(struct op *o, uint32_t i, uint64_t count)
{
    o->narrow[i] = o->type != TYPE_F32;
    vkm_arena_reserve(o->arena, o->kind->name, count * (o->narrow[i] ? sizeof(uint16_t) : sizeof(float)), &o->x[i]);
}

static struct bench_fill fill_of(const struct op *o, uint32_t j)
{
    return (struct bench_fill){.seed = j + 1, .type = o->narrow[j] ? o->type : TYPE_F32, .scale = 1};
}

struct num op_number(const struct op *o, uint32_t j, uint64_t i)
{
    const struct bench_fill fill = fill_of(o, j);
    return num_exact(bench_filled(&fill, o->x[j], i));
}

struct num *op_numbers(struct check *c, const struct op *o, uint32_t j, uint64_t first, uint64_t stride, size_t count)
{
    struct num *x = check_new(c, count);
    for (size_t i = 0; i < count; i++)
        x[i] = op_number(o, j, first + i * stride);
    return x;
}

void op_routing_reserve(struct op *o)
{
    const struct op_shape *s = &o->s;
    o->routing = (struct vkm_routing){.T = s->T, .E = s->E, .K = s->K, .F = s->F, .D = s->D, .type = o->type};
    vkm_arena_reserve(o->arena, "idx", (uint64_t)s->T * s->K * sizeof(uint32_t), &o->routing.idx);
    vkm_routing_reserve(o->ctx, o->arena, &o->routing);
}

static void route(const struct op *o, uint32_t *idx)
{
    case_route(CASE_BALANCED, o->s.T, o->s.E, o->s.K, 1, idx);
}

enum vkmoe_status op_routing_setup(struct op *o)
{
    const struct vkm_buf idx = o->routing.idx;
    struct vkm_rec *rec;
    uint32_t *routed = malloc(idx.bytes);
    if (!routed)
        return vkm_fail_memory(&o->ctx->log);
    route(o, routed);
    enum vkmoe_status status = vkm_buf_upload(o->ctx, idx, routed, idx.bytes);
    free(routed);
    if (status || (status = vkm_rec_create(o->ctx, "bench routing", &rec)))
        return status;
    vkm_op_route(rec, &o->routing, (struct vkm_buf){0});
    return vkm_rec_run_once(rec);
}

struct op_rows op_rows(struct check *c, const struct op *o, const uint32_t *idx)
{
    const size_t T = o->s.T, E = o->s.E, K = o->s.K, R = T * K;
    struct op_rows rows = {check_new_words(c, E + 1), check_new_words(c, R), check_new_words(c, R)};
    if (!idx) {
        uint32_t *set_up = check_new_words(c, R);
        route(o, set_up);
        idx = set_up;
    }
    ref_dispatch(T, E, K, idx, check_new_words(c, E), rows.offset, rows.row_of, rows.token_of, check_new_words(c, R));
    return rows;
}

/* Fills what was planned. */
static enum vkmoe_status set_up(struct op *o)
{
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t j = 0; j < OP_BUFFERS && !status; j++)
        if (o->x[j].bytes) {
            const struct bench_fill fill = fill_of(o, j);
            status = bench_fill(o->ctx, o->x[j], &fill);
        }
    return status || !o->kind->setup ? status : o->kind->setup(o);
}

/* Executes it once more and looks at what it computes. */
static enum vkmoe_status check(struct op *o, const char *name)
{
    struct check c;
    struct vkm_rec *rec;
    enum vkmoe_status status;
    if ((status = set_up(o)) || (status = vkm_rec_create(o->ctx, "bench check", &rec)))
        return status;
    if (o->kind->prepare)
        o->kind->prepare(rec, o);
    o->kind->record(rec, o, 0);
    if ((status = vkm_rec_run_once(rec)))
        return status;
    check_begin(&c, o->ctx, name, o->shape);
    o->kind->check(&c, o);
    return check_end(&c);
}

/* pace: seconds that a unit of work takes. */
static enum vkmoe_status measure(struct bench *b, struct op *o, const char *name, double *pace)
{
    const struct op_case *kind = o->kind;
    struct bench_times times;
    enum vkmoe_status status;
    if ((status = vkm_arena_commit(o->arena)) || (status = set_up(o)) ||
        (status = bench_time(b, &(struct bench_case){.record = kind->record, .prepare = kind->prepare, .user = o,
                                                     .most = kind->most}, &times)))
        return status;
    *pace = times.median / o->work;
    if (kind->product)
        b->product_rate[o->type] = fmax(b->product_rate[o->type], 1e-9 / *pace);
    if (times.repetitions == 0)
        return bench_skip_slow(b, "ops", name, o->shape, times.median);
    struct bench_result r = bench_rate(b, "ops", name, kind->moves ? "GB/s" : "GFLOP/s",
                                       kind->moves ? CEILING_COPY : bench_product_ceiling(b, o->type), 1e-9 * o->work, &times);
    memcpy(r.shape, o->shape, sizeof r.shape);
    return (status = check(o, name)) ? status : bench_report(b, &r);
}

/* pace: as in measure, of the shape before; 0: there was none. */
static enum vkmoe_status run(struct bench *b, const struct op_case *kind, const struct op_shape *shape, uint32_t type,
                             double *pace)
{
    char name[40];
    struct op o = {.ctx = b->ctx, .kind = kind, .s = *shape, .type = type};
    enum vkmoe_status status = vkm_arena_create(b->ctx, "bench", VKM_MEMORY_DEVICE, &o.arena);
    if (status)
        return status;
    kind->plan(&o);
    bench_typed_name(name, kind->name, type);
    const char *reason = kind->skip ? kind->skip(b->ctx, type) : NULL;
    if (reason)
        status = bench_skip(b, "ops", name, o.shape, "%s", reason);
    else if (*pace * o.work > b->seconds)
        status = bench_skip_slow(b, "ops", name, o.shape, *pace * o.work);
    else if (!bench_fits(b, vkm_arena_bytes(o.arena)))
        status = bench_skip(b, "ops", name, o.shape, "needs more memory than is free");
    else
        status = measure(b, &o, name, pace);
    vkm_arena_destroy(o.arena);
    return status;
}

static enum vkmoe_status run_all(struct bench *b, const struct op_case *kinds)
{
    static const struct op_shape none;
    enum vkmoe_status status = VKMOE_OK;
    for (const struct op_case *kind = kinds; kind->name && !status; kind++) {
        const struct op_shape *shapes = b->ctx->caps.cpu ? kind->cpu : kind->gpu;
        double pace[3] = {0};
        for (uint32_t i = 0; i < 4 && memcmp(&shapes[i], &none, sizeof none) != 0 && !status; i++)
            for (uint32_t type = TYPE_F32; type <= (kind->product || kind->skip ? TYPE_BF16 : TYPE_F32) && !status; type++)
                if (b->types[type])
                    status = run(b, kind, &shapes[i], type, &pace[type]);
    }
    return status;
}

enum vkmoe_status bench_ops(struct bench *b)
{
    static const struct op_case *const tables[] = {op_products, op_attention, op_others};
    enum vkmoe_status status = VKMOE_OK;
    for (size_t i = 0; i < CASE_COUNT(tables) && !status; i++)
        status = run_all(b, tables[i]);
    return status;
}
