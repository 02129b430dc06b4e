#include "compare.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common.h"
#include "live.h"

/* Step times are told by turns: each round gives every method its steps, in the order there and back, and is held
 * against "none" of the same round, so that a machine that grows slower or is busy with something else hits all alike. */
enum { ROUNDS = 5, ROUNDS_LEAST = 3, WARM_STEPS = 2, STEPS = 6, STEPS_MOST = 100, TIMED_MOST = 64 };
static const double turn_seconds = 0.1, least_seconds = 2.0, most_seconds = 30.0, share = 0.03;

/* Mean time of a step, from a trainer of its own that writes nothing. */
static enum vkmoe_status time_method(const struct contest *c, const struct contender *method, double *seconds)
{
    struct vkmoe_trainer *trainer = NULL;
    struct vkmoe_step_report report;
    struct vkmoe_trainer_desc desc = { .model = method->model, .train = method->train, .data = c->data };
    desc.train.steps = method->train.steps > STEPS_MOST ? method->train.steps : 2 * STEPS_MOST;
    desc.train.tensorboard = false;
    enum vkmoe_status status = vkmoe_trainer_create(c->ctx, &desc, &trainer);
    for (int i = 0; status == VKMOE_OK && i < WARM_STEPS; i++)
        status = vkmoe_trainer_step(trainer, &report);
    if (status == VKMOE_OK)
        status = vkmoe_trainer_finish(trainer, &report);
    const double start = clock_seconds();
    int steps = 0;
    while (status == VKMOE_OK && (steps < STEPS || (steps < STEPS_MOST && clock_seconds() - start < turn_seconds))) {
        status = vkmoe_trainer_step(trainer, &report);
        steps++;
    }
    if (status == VKMOE_OK)
        status = vkmoe_trainer_finish(trainer, &report);
    *seconds = (clock_seconds() - start) / steps;
    vkmoe_trainer_destroy(trainer);
    return status;
}

/* Seconds to spend on it: a small share of what is to be done. */
static double budget(const struct contest *c, double times[ROUNDS][TIMED_MOST])
{
    double work = 0.0;
    for (size_t i = 0; i < c->count; i++)
        work += times[0][i] * c->methods[i].train.steps * c->seeds;
    return fmax(least_seconds, fmin(most_seconds, share * work));
}

static void keep(struct contest *c, double times[ROUNDS][TIMED_MOST], size_t count, size_t none, int rounds)
{
    double values[ROUNDS];
    for (int r = 0; r < rounds; r++)
        values[r] = times[r][none];
    const double base = median(values, (size_t)rounds);
    for (size_t i = 0; i < count; i++) {
        for (int r = 0; r < rounds; r++)
            values[r] = times[r][i] / times[r][none];
        c->methods[i].step_ratio = median(values, (size_t)rounds);
        c->methods[i].step_seconds = base * c->methods[i].step_ratio;
    }
}

enum vkmoe_status contest_time_steps(struct contest *c)
{
    double times[ROUNDS][TIMED_MOST];
    const size_t count = c->count + c->none_added;
    const double start = clock_seconds();
    double elapsed;
    bool known = true;
    size_t none = 0;
    int rounds = 0;
    for (size_t i = 0; i < count; i++) {
        known = known && !isnan(c->methods[i].step_ratio) && !isnan(c->methods[i].step_seconds);
        if (strcmp(c->methods[i].name, "none") == 0)
            none = i;
    }
    if (known)
        return VKMOE_OK;
    do {
        for (size_t turn = 0; turn < count; turn++) {
            const size_t i = rounds % 2 == 0 ? turn : count - 1 - turn;
            char line[160];
            snprintf(line, sizeof line, "step times: round %d of %d, %s", rounds + 1, ROUNDS, c->methods[i].name);
            if (c->terminal && !c->quiet)
                live_show(line);
            const enum vkmoe_status status = time_method(c, &c->methods[i], &times[rounds][i]);
            if (status != VKMOE_OK || stop_signal()) {
                live_clear();
                return status;
            }
        }
        rounds++;
        elapsed = clock_seconds() - start;
    } while (rounds < ROUNDS && elapsed < (rounds < ROUNDS_LEAST ? most_seconds : budget(c, times)));
    live_clear();
    keep(c, times, count, none, rounds);
    return VKMOE_OK;
}
