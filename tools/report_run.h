/* Run directories, read into numbers. Letters: L layers, E experts. A number that is not there is NaN. */
#ifndef VKMOE_TOOLS_REPORT_RUN_H
#define VKMOE_TOOLS_REPORT_RUN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vkmoe/vkmoe.h>

/* What metrics.jsonl and evaluation.json hold for each layer. */
#define REPORT_FIELDS(F)                                                                                               \
    F(LOAD_MAX, "load_max")                                                                                            \
    F(LOAD_MIN, "load_min")                                                                                            \
    F(LOAD_CV, "load_cv")                                                                                              \
    F(DEAD, "dead")                                                                                                    \
    F(SEU, "seu")                                                                                                      \
    F(ENTROPY, "entropy")                                                                                              \
    F(ENTROPY_TOPK, "entropy_topk")                                                                                    \
    F(GRAM_MEAN_SQUARE, "gram_mean_square")                                                                            \
    F(GRAM_MAX, "gram_max")                                                                                            \
    F(USED, "used")                                                                                                    \
    F(CHANGED, "changed")                                                                                              \
    F(PES, "pes")                                                                                                      \
    F(PES_SE, "pes_se")
#define REPORT_FIELD_ENUM(id, name) FIELD_##id,
enum report_field { REPORT_FIELDS(REPORT_FIELD_ENUM) FIELD_COUNT };
extern const char *const report_field_names[FIELD_COUNT];

/* A line of metrics.jsonl. */
struct point {
    uint64_t step, tokens;
    double loss;
    double tokens_per_second;  /* log lines only */
    double *fields;            /* [FIELD_COUNT, L], the allocation that holds the next two */
    double *gates;             /* [L, VKMOE_GATE_BINS] */
    double *load;              /* [L, E]: tokens of each expert; NULL where the line does not say, as of validations */
};

struct series {
    struct point *points;
    size_t count;
};

/* An evaluation that leaves experts out. */
struct cut {
    double at;                 /* the threshold, or the number of top experts dropped */
    double loss, perplexity, seconds, active_experts;
};

struct cuts {
    struct cut *list;
    size_t count;
};

struct run {
    char *path;                /* of the directory, absolute */
    const char *name;          /* its last part, points into path */
    json_t *trainer;           /* trainer.json */
    const json_t *model, *train; /* its objects */
    const char *data, *seed, *device; /* device may be NULL */
    struct vkmoe_balance balance; /* simbal, lbl and lossfree */
    uint32_t layers, experts;  /* L, E */
    bool dense;                /* one expert: nothing is routed, fields are NaN */
    uint64_t steps, step_tokens, parameters, skipped;
    struct series log, validation;
    size_t values;             /* numbers that the two hold */
    bool finished;             /* the last step is there, and validated */
    double *fields;            /* [FIELD_COUNT, L]: of the trained model; evaluation.json's, else the last measured */
    double *gates;             /* [L, VKMOE_GATE_BINS], likewise */
    struct cuts prune, drop_top;
};

enum run_result { RUN_OK, RUN_EMPTY, RUN_BAD };

/* Reads a run directory. RUN_EMPTY, after a warning: the run has not saved anything yet. RUN_BAD: one message was
 * written. *out is released with run_free, whatever was returned. */
enum run_result run_load(const char *dir, struct run *out);
void run_free(struct run *run);

/* Loss of the last validation, or NaN. */
double run_loss(const struct run *run);

#endif
