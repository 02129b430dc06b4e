/* Single operations to be timed: a table of what each needs, how it is recorded and what it is worth. */
#ifndef VKMOE_BENCH_OPS_H
#define VKMOE_BENCH_OPS_H

#include "bench/check.h"
#include "bench/measure.h"
#include "ops/ops.h"

enum { OP_BUFFERS = 8, OP_Z_COPIES = 16 };

/* Sizes of an operation, letters as in ops/ops.h; those that it does not have are 0. */
struct op_shape {
    uint32_t m, n, k;          /* of a product */
    uint32_t T, D, F, E, K, V;
    uint32_t B, S, H, width;   /* attention */
    uint32_t count;            /* elements */
};

struct op {
    struct vkmoe_context *ctx;
    const struct op_case *kind;
    struct op_shape s;
    uint32_t type;             /* of a product's operands and of attention's matrices; f32 of all else */
    struct vkm_arena *arena;
    struct vkm_buf x[OP_BUFFERS]; /* filled with random numbers */
    bool narrow[OP_BUFFERS];   /* those are in 16 bits */
    struct vkm_buf small;      /* what only has to be small and exact: AdamW's control and stats */
    struct vkm_routing routing;
    struct vkm_attention attention;
    double work;               /* operations, or bytes read and written, of an execution */
    char shape[64];
};

struct op_case {
    const char *name;
    bool moves;                /* worth bytes per second; else operations per second */
    void (*plan)(struct op *o); /* reserves its buffers, says what it is worth */
    enum vkmoe_status (*setup)(struct op *o); /* after they are there; or NULL */
    void (*record)(struct vkm_rec *rec, void *op, uint32_t i);
    void (*check)(struct check *c, const struct op *o); /* after one execution, with buffers filled anew */
    void (*prepare)(struct vkm_rec *rec, void *op); /* as in struct bench_case */
    uint32_t most;
    bool product;              /* measured in each type */
    const char *(*skip)(const struct vkmoe_context *ctx, uint32_t type); /* likewise, but where this says why not; or NULL */
    uint32_t form;             /* of a product */
    struct op_shape cpu[4], gpu[4]; /* on a CPU device, on others; up to the first that is empty */
};

/* x[i] gets room for `count` numbers of the operation's type, or of f32. */
void op_reserve(struct op *o, uint32_t i, uint64_t count);
void op_reserve32(struct op *o, uint32_t i, uint64_t count);
/* T tokens evenly to K of E experts: idx and all that follows from it, before and after the arena's commit. */
void op_routing_reserve(struct op *o);
enum vkmoe_status op_routing_setup(struct op *o);

/* Number i of x[j] as it was filled; `count` of them, each `stride` after the one before. */
struct num op_number(const struct op *o, uint32_t j, uint64_t i);
struct num *op_numbers(struct check *c, const struct op *o, uint32_t j, uint64_t first, uint64_t stride, size_t count);

/* A routing's rows as in struct vkm_routing, from idx [T,K]; NULL: of op_routing_setup. */
struct op_rows {
    uint32_t *offset, *row_of, *token_of;
};
struct op_rows op_rows(struct check *c, const struct op *o, const uint32_t *idx);

/* Each up to one without a name. */
extern const struct op_case op_products[], op_attention[], op_others[];

#endif
