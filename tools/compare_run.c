#include "compare.h"

#include <inttypes.h>

#include "common.h"
#include "evaluation.h"
#include "json.h"
#include "live.h"

enum { PES_TOKENS = 2048, DROP_MOST = 4 };
static const double thresholds[] = { 0.0, 0.1, 0.15, 0.2 };

struct view {
    const struct contest *contest;
    uint32_t seed;
    size_t method;
};

static void show_live(void *user, const struct progress *p, const struct vkmoe_step_report *report)
{
    const struct view *view = user;
    contest_print_step(view->contest, view->seed, view->method, p, report, false);
}

static void show_line(void *user, const struct progress *p, const struct vkmoe_step_report *report)
{
    const struct view *view = user;
    contest_print_step(view->contest, view->seed, view->method, p, report, true);
}

/* Trains to the end. Exit status. */
static int train(struct contest *c, uint32_t seed, size_t method)
{
    struct entry *entry = contest_entry(c, seed, method);
    struct vkmoe_train_config config = c->methods[method].train;
    struct vkmoe_trainer_desc desc = { .data = c->data };
    struct vkmoe_trainer *trainer = NULL;
    struct vkmoe_step_report report = { 0 };
    struct progress p = { 0 };
    struct view view = { c, seed, method };
    config.seed = c->first_seed + seed;
    if (entry->saved) {
        desc.resume_dir = entry->dir;
    } else if (contest_clear_run(entry->dir)) {
        desc.run_dir = entry->dir;
        desc.model = c->methods[method].model;
        desc.train = config;
    } else {
        return EXIT_FAILED;
    }
    enum vkmoe_status status = vkmoe_trainer_create(c->ctx, &desc, &trainer);
    if (status == VKMOE_OK)
        status = run_begin(trainer, c->data, c->quiet, &p);
    if (status == VKMOE_OK)
        status = run_steps(trainer, &p, &report, &(struct run_output){ show_live, show_line, &view });
    if (status == VKMOE_OK) {
        entry->step = vkmoe_trainer_steps(trainer);
        c->predicted_done += (double)(entry->step - p.first_step) * c->methods[method].step_seconds;
    }
    if (report.skipped_total > 0)
        message("warning: %s: %" PRIu64 " steps were skipped: their loss or gradient was not finite",
                entry->dir, report.skipped_total);
    run_end(&p);
    vkmoe_trainer_destroy(trainer);
    if (status != VKMOE_OK)
        return EXIT_FAILED;
    return entry->step < config.steps ? 128 + stop_signal() : EXIT_OK;
}

/* Measures the trained model on the held-out text and writes evaluation.json. */
static bool evaluate(struct contest *c, const struct entry *entry, const struct contender *method)
{
    const struct vkmoe_model_config *model = &method->model;
    const uint32_t spare = model->experts - model->top_k;
    const struct evaluation_plan plan = {
        .held_out = true, .metrics = true,
        .pes_tokens = method->dense ? 0 : PES_TOKENS,
        .prune = thresholds, .prune_count = method->dense ? 0 : sizeof thresholds / sizeof thresholds[0],
        .drop = !method->dense, .drop_top = spare < DROP_MOST ? spare : DROP_MOST,
    };
    struct vkmoe_model *trained = NULL;
    struct evaluation found = { 0 };
    bool saved = false;
    if (c->terminal && !c->quiet)
        live_show("measuring the trained model");
    if (vkmoe_model_load(c->ctx, entry->dir, &trained) == VKMOE_OK &&
        evaluation_run(trained, c->data, &plan, &found) == VKMOE_OK) {
        json_t *object = evaluation_json(&found);
        saved = json_save(entry->dir, EVALUATION_FILE, object);
        json_decref(object);
    }
    evaluation_free(&found);
    vkmoe_model_destroy(trained);
    return saved;
}

int contest_run(struct contest *c, uint32_t seed, size_t method)
{
    struct entry *entry = contest_entry(c, seed, method);
    const int status = train(c, seed, method);
    if (status != EXIT_OK)
        return status;
    entry->finished = evaluate(c, entry, &c->methods[method]);
    return entry->finished ? EXIT_OK : EXIT_FAILED;
}
