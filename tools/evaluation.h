/* A saved model measured on text in several ways, for `vkmoe eval` and `vkmoe compare`. */
#ifndef VKMOE_TOOLS_EVALUATION_H
#define VKMOE_TOOLS_EVALUATION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vkmoe/vkmoe.h>

/* What to measure, besides the loss. */
struct evaluation_plan {
    bool held_out;         /* on what is held out for validation instead of all text */
    bool metrics;          /* how each layer routes */
    uint32_t pes_tokens;   /* with it: tokens on which the experts' similarity is measured */
    const double *prune;   /* thresholds below which a chosen expert is dropped */
    size_t prune_count;
    bool drop;             /* the curve over the best 0..drop_top experts passed over */
    uint32_t drop_top;
};

/* One evaluation with experts left out. */
struct evaluation_point {
    double below;          /* threshold of a pruned one */
    uint32_t n;            /* experts passed over */
    double loss, perplexity, seconds, active_experts;
};

/* What was found; its memory is given back by evaluation_free. */
struct evaluation {
    struct vkmoe_eval_result whole; /* its arrays belong to this; NULL without metrics */
    struct vkmoe_layer_metrics *metrics;
    uint64_t *expert_tokens;
    struct evaluation_point *prune, *drop;
    size_t prune_count, drop_count;
};

/* Runs the plan. On failure a message was printed and *out is empty. */
enum vkmoe_status evaluation_run(struct vkmoe_model *model, const struct vkmoe_data *data,
                                 const struct evaluation_plan *plan, struct evaluation *out);
void evaluation_free(struct evaluation *evaluation);

/* Tables on stdout. */
void evaluation_print(const struct evaluation *evaluation);

/* One object; numbers that are not finite are null. NULL: no memory. */
json_t *evaluation_json(const struct evaluation *evaluation);

#endif
