/* Every operation against the reference, within its elementwise bounds, under the validation layers: with the kernels
 * that the device gets, and with the others that it can run. A test is one operation on all its shapes: a process of its
 * own would cost more than most of them. */
#include "gpu_fixture.h"
#include "ops_cases.h"

#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_PARAMETERS = 256 };

/* Sanitizers do not see into kernels: with the device's own they have seen what calls them. */
#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif

struct parameter {
    size_t table, index, variant;
};

ParameterizedTestParameters(ops, equals_reference)
{
    static struct parameter parameters[MAX_PARAMETERS];
    size_t count = 0;
    for (size_t t = 0; ops_case_tables[t]; t++)
        for (size_t i = 0; ops_case_tables[t][i].name; i++)
            for (size_t v = 0; ops_variants[v].name; v++) {
                if (!ops_variant_fits(&ops_variants[v], ops_case_tables[t][i].narrow, ops_case_tables[t][i].lanes))
                    continue;
                if (SANITIZED && ops_variants[v].choose)
                    continue;
                if (count == MAX_PARAMETERS)
                    abort();
                parameters[count++] = (struct parameter){t, i, v};
            }
    return cr_make_param_array(struct parameter, parameters, count);
}

ParameterizedTest(struct parameter *parameter, ops, equals_reference)
{
    const struct ops_case *c = &ops_case_tables[parameter->table][parameter->index];
    const struct ops_variant *variant = &ops_variants[parameter->variant];
    struct vkmoe_context *ctx = open_context();
    const char *kernels = variant->text;
    struct ops *o;
    if (variant->offered && !variant->offered(ctx)) {
        close_context(ctx, 0);
        cr_skip_test("%s: not on this device: %s", c->name, variant->text);
    }
    cr_assert_eq(ops_create(ctx, variant, &o), VKMOE_OK, "%s", seen.last);
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
