/* Every operation against the reference, within its elementwise bounds, under the validation layers: with the kernels
 * that the device gets, and with those of a GPU. A test is one operation on all its shapes: a process of its own would
 * cost more than most of them. */
#include "gpu_fixture.h"
#include "ops_cases.h"

#include <criterion/parameterized.h>
#include <stdio.h>

static const struct ops_case *const tables[] = {
    ops_cases_dense, ops_cases_gate, ops_cases_moe,   ops_cases_attention,
    ops_cases_loss,  ops_cases_optim, ops_cases_metrics, ops_cases_net, ops_cases_narrow,
};
enum { TABLES = sizeof tables / sizeof *tables, MAX_CASES = 64 };

struct parameter {
    size_t table, index;
    bool gpu_kernels;
};

ParameterizedTestParameters(ops, equals_reference)
{
    static struct parameter parameters[2 * MAX_CASES];
    size_t count = 0;
    for (size_t t = 0; t < TABLES; t++)
        for (size_t i = 0; tables[t][i].name; i++)
            for (int gpu = 0; gpu < 2; gpu++)
                parameters[count++] = (struct parameter){t, i, gpu != 0};
    return cr_make_param_array(struct parameter, parameters, count);
}

ParameterizedTest(struct parameter *parameter, ops, equals_reference)
{
    const struct ops_case *c = &tables[parameter->table][parameter->index];
    struct vkmoe_context *ctx = open_context();
    const char *kernels = parameter->gpu_kernels ? "kernels for a GPU" : "its own kernels";
    struct ops *o;
    cr_assert_eq(ops_create(ctx, parameter->gpu_kernels, &o), VKMOE_OK, "%s", seen.last);
    struct ops_result worst = {0};
    size_t values = 0;
    for (size_t i = 0; i < c->count; i++) {
        struct ops_result r;
        cr_expect(c->run(o, i, &r), "%s, %s: %s: %s (%s)", ctx->info.driver, kernels, r.name, r.failure, seen.last);
        values += r.values;
        if (i == 0 || r.ratio > worst.ratio)
            worst = r;
    }
    fprintf(stderr, "%s, %s: %s: %zu shapes, %zu values; worst error / bound %.3f (%s of %s)\n", ctx->info.driver,
            kernels, c->name, c->count, values, worst.ratio, worst.worst, worst.name);
    ops_destroy(o);
    close_context(ctx, 0);
}
