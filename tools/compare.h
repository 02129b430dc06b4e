/* Methods of balancing against each other, several seeds of each, on one data set and model. */
#ifndef VKMOE_TOOLS_COMPARE_H
#define VKMOE_TOOLS_COMPARE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <vkmoe/vkmoe.h>

#include "run.h"

/* Of compare.json: {"format":1, "methods":[NAME...], "seeds":N, "first_seed":N, "settings":{...},
 * "step_seconds":{NAME: seconds}, "step_ratio":{NAME: step time over that of "none"}}. */
#define COMPARE_FILE "compare.json"
#define EVALUATION_FILE "evaluation.json"

struct contender {
    const char *text;              /* as it was given, for the names of directories */
    char name[VKMOE_BALANCE_TEXT]; /* as the library words it, or "dense" */
    bool dense;
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;
    double step_seconds, step_ratio; /* NAN until measured */
};

/* One run. */
struct entry {
    char *dir;
    bool saved;                    /* it has a checkpoint, */
    uint64_t step;                 /* of this step */
    bool finished;                 /* trained and evaluated */
};

struct contest {
    const char *out;
    bool quiet, terminal, begun;   /* begun: compare.json was there */
    struct vkmoe_context *ctx;
    struct vkmoe_data *data;
    struct contender *methods;     /* none, for its step time, stands behind them where it is not among them */
    size_t count;
    bool none_added;
    uint32_t seeds;
    uint64_t first_seed;
    struct entry *entries;         /* [seeds, count] */
    json_t *settings;              /* what all runs share */
    double predicted, predicted_done, started; /* seconds of all steps to do, of those done, and the clock at the start */
};

static inline struct entry *contest_entry(const struct contest *c, uint32_t seed, size_t method)
{
    return &c->entries[seed * c->count + method];
}

/* Refuses a directory made with other settings and reads its step times. false after a message. */
bool contest_load(struct contest *c);
/* Writes compare.json. */
bool contest_save(const struct contest *c);
/* Finds how far each run is; refuses directories that are none of this comparison's. false after a message. */
bool contest_find_runs(struct contest *c);
/* Takes out of a run's directory what a run without a checkpoint has left there. false after a message. */
bool contest_clear_run(const char *dir);

/* Measures step times, the methods in turns, where they are not known. */
enum vkmoe_status contest_time_steps(struct contest *c);

/* Trains and evaluates one run, or goes on with it. Exit status; 128 + signal where it was interrupted. */
int contest_run(struct contest *c, uint32_t seed, size_t method);

/* What is seen of it. */
void contest_print_head(const struct contest *c);
void contest_print_step(const struct contest *c, uint32_t seed, size_t method, const struct progress *p,
                        const struct vkmoe_step_report *report, bool stays);
/* again: it was finished before. */
void contest_print_done(const struct contest *c, uint32_t seed, size_t method, bool again);
/* A table of means and standard deviations over the seeds. false after a message. */
bool contest_print_summary(const struct contest *c);

#endif
