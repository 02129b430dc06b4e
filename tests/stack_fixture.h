/* What tests of stacks share: a small one, rows for it, its training. */
#ifndef VKMOE_TESTS_STACK_FIXTURE_H
#define VKMOE_TESTS_STACK_FIXTURE_H

#include <vkmoe/stack.h>

#include <math.h>
#include <string.h>

#include "gpu_fixture.h"

enum { ROWS = 96, IN = 3, OUT = 2, LAYERS = 2, TOP_K = 2, ALL = 200 }; /* ROWS of a step; ALL: no multiple of a chunk */

static const struct vkmoe_stack_config small = {.d_in = IN, .d_out = OUT, .d_model = 24, .layers = LAYERS, .experts = 4,
                                                .top_k = TOP_K, .d_expert = 16, .batch = ROWS, .rows = 64, .seed = 3, .lr = 5e-3f};

#define assert_ok(call) cr_assert_eq(call, VKMOE_OK, "%s: %s", #call, seen.last)
/* The failure that is wanted, said once, in a line that contains `part`. */
#define expect_failure(call, part)                                                                                       \
    do {                                                                                                                 \
        unsigned before = seen.errors;                                                                                   \
        seen.last[0] = '\0';                                                                                             \
        cr_expect_eq(call, VKMOE_ERROR_ARGUMENT, "%s", #call);                                                           \
        cr_expect_eq(seen.errors, before + 1, "%s: said %u times", #call, seen.errors - before);                         \
        cr_expect(strstr(seen.last, part), "%s: \"%s\" does not say \"%s\"", #call, seen.last, part);                    \
        seen.errors = before;                                                                                            \
    } while (0)

static inline struct vkmoe_stack *create(struct vkmoe_context *ctx, struct vkmoe_stack_config config)
{
    struct vkmoe_stack *stack;
    assert_ok(vkmoe_stack_create(ctx, &config, &stack));
    return stack;
}

/* Rows of a step, always the same for a number: points of a cube, and a smooth function of them that is no plane. */
struct batch {
    float in[ALL * IN], target[ALL * OUT];
    uint32_t classes[ALL];
};
static inline struct batch batch_of(uint32_t number)
{
    static struct batch b;
    uint32_t state = number * 2654435761u + 12345;
    for (int r = 0; r < ALL; r++) {
        float *x = &b.in[r * IN];
        for (int i = 0; i < IN; i++) {
            state = state * 1664525u + 1013904223u;
            x[i] = (float)(state >> 8) / 8388608.0f - 1;
        }
        b.target[r * OUT] = sinf(3 * x[0]) * x[1];
        b.target[r * OUT + 1] = fabsf(x[2]) - 0.5f * x[0];
        b.classes[r] = x[0] * x[1] > 0;
    }
    return b;
}

static inline struct vkmoe_stack_report train(struct vkmoe_stack *stack, uint32_t first, uint32_t count)
{
    struct vkmoe_stack_report report = {0};
    const bool classes = vkmoe_stack_config(stack)->loss == VKMOE_STACK_CROSS_ENTROPY;
    for (uint32_t i = first; i < first + count; i++) {
        const struct batch b = batch_of(i);
        assert_ok(vkmoe_stack_step(stack, b.in, classes ? (const void *)b.classes : b.target, &report));
        cr_assert_eq(report.step, i + 1);
    }
    return report;
}

/* What it makes of rows that it has not seen. */
static inline void outputs(struct vkmoe_stack *stack, float out[ALL * OUT])
{
    const struct batch b = batch_of(1000000);
    assert_ok(vkmoe_stack_forward(stack, ALL, b.in, out, NULL, NULL));
}

static inline void expect_same(struct vkmoe_stack *a, struct vkmoe_stack *b)
{
    float of_a[ALL * OUT], of_b[ALL * OUT];
    outputs(a, of_a);
    outputs(b, of_b);
    cr_expect_eq(memcmp(of_a, of_b, sizeof of_a), 0, "the bits differ");
}

#endif
