/* The cases of every operation, forward and backward, on the shapes of cases/cases.h. A case runs one shape of a table
 * in all forms that differ in code; it begins with ops_begin and ends with ops_end. */
#ifndef VKM_OPS_CASES_H
#define VKM_OPS_CASES_H

#include "ops_fixture.h"

#include "nn/params.h"
#include "ops/ops.h"

struct ops_case {
    const char *name;
    bool (*run)(struct ops *o, size_t index, struct ops_result *result);
    size_t count;         /* index < count: the shapes of the tests */
    size_t large;         /* then as many that only the self-test has time for */
    bool narrow;          /* with 16-bit operands: of ops->type */
    bool lanes;           /* in kernels that can load lanes' neighbours together */
};

/* All operations, table by table; ends in NULL. */
extern const struct ops_case *const ops_case_tables[];

/* Each ends in a row of zeros. */
extern const struct ops_case ops_cases_dense[];
extern const struct ops_case ops_cases_attention[];
extern const struct ops_case ops_cases_gate[];
extern const struct ops_case ops_cases_moe[];
extern const struct ops_case ops_cases_narrow[];
extern const struct ops_case ops_cases_loss[];
extern const struct ops_case ops_cases_optim[];
extern const struct ops_case ops_cases_metrics[];
extern const struct ops_case ops_cases_net[];
extern const struct ops_case ops_cases_stack[];

/* struct loss_scale: an input of kernels. A power of two, by which they multiply exactly. */
struct ops_array ops_loss_scale(struct ops *o, float scale);

/* The parameter that lies at (id, layer) of the reference's array: the orders of the two tables are the same. */
const struct vkm_param *ops_param(const struct vkm_params *params, enum ref_param id, size_t layer);
/* All of them to or from the reference's layout. ERROR_ARGUMENT where the tables' sizes differ. */
enum ops_transfer { OPS_PUT_WEIGHTS, OPS_PUT_GRADS, OPS_GET_GRADS };
enum vkmoe_status ops_transfer(struct ops *o, const struct ref_model *m, const struct vkm_params *params, enum ops_transfer what,
                               float *values);
/* Gradients in that layout, parameter by parameter. */
void ops_expect_grads(struct ops *o, const struct ref_model *m, const struct vkm_params *params, const float *got,
                      const struct num *want);

/* A routing with its outputs as arrays: T, E, K, F, D. idx [T,K] was filled by the case. */
struct ops_routing {
    struct vkm_routing r;
    struct ops_array idx, count, offset, row_of, token_of, slot_of, tiles, commands;
};
struct ops_routing ops_routing(struct ops *o, struct vkm_routing shape, struct ops_array idx);
/* Scratch of a product of form TN whose C is [E,m,n]. */
struct vkm_buf ops_partial(struct ops *o, const struct vkm_routing *routing, uint32_t m, uint32_t n);

#endif
