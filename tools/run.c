#include "run.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "live.h"

enum {
    VALIDATION_TOKENS = 131072, /* read by a validation during training; the last one reads all */
    FIRST_VALIDATION_TOKENS = 16384, /* before the first step, only to say where the loss comes from */
    LOAD_STEPS = 50, /* steps at the end over which the load of the experts is summed */
};

static volatile sig_atomic_t noted;

/* Notes the signal and leaves the next one to its default, so that a second Ctrl-C ends at once. */
static void on_signal(int number)
{
    struct sigaction standard = { .sa_handler = SIG_DFL };
    noted = number;
    sigaction(SIGINT, &standard, NULL);
    sigaction(SIGTERM, &standard, NULL);
}

void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int stop_signal(void)
{
    return noted;
}

static struct router_summary summarize_routers(const struct vkmoe_layer_metrics *metrics, uint32_t layers)
{
    struct router_summary s = { .pes = NAN };
    for (uint32_t l = 0; l < layers; l++) {
        s.entropy += metrics[l].entropy / layers;
        s.seu += metrics[l].seu / layers;
        s.dead += metrics[l].dead;
        if (isnan(s.pes) || metrics[l].pes < s.pes) {
            s.pes = metrics[l].pes;
            s.pes_layer = l;
        }
    }
    return s;
}

static enum vkmoe_status validate(struct vkmoe_trainer *trainer, uint64_t max_tokens, struct progress *p)
{
    struct vkmoe_validation found;
    const enum vkmoe_status status = vkmoe_trainer_evaluate(trainer, max_tokens, &found);
    if (status != VKMOE_OK)
        return status;
    const struct router_summary before = p->routers;
    p->validation = found.loss;
    p->routers = summarize_routers(found.metrics, found.layers);
    if (isnan(p->routers.pes)) {
        p->routers.pes = before.pes;
        p->routers.pes_layer = before.pes_layer;
    }
    return VKMOE_OK;
}

enum vkmoe_status run_begin(struct vkmoe_trainer *trainer, const struct vkmoe_data *data, bool quiet, struct progress *p)
{
    const struct vkmoe_model_config *model = vkmoe_trainer_model(trainer);
    *p = (struct progress){ .quiet = quiet, .terminal = isatty(STDOUT_FILENO) == 1,
                            .first_step = vkmoe_trainer_steps(trainer), .steps = vkmoe_trainer_train(trainer)->steps,
                            .held_out = vkmoe_data_info(data).valid_tokens, .first_loss = NAN, .validation = NAN,
                            .routers = { .pes = NAN } };
    p->load = calloc((size_t)model->layers * model->experts, sizeof *p->load);
    enum vkmoe_status status = VKMOE_OK;
    if (p->first_step == 0) {
        status = validate(trainer, FIRST_VALIDATION_TOKENS, p);
        p->first_loss = p->validation;
    }
    return status;
}

void run_end(struct progress *p)
{
    free(p->load);
    p->load = NULL;
}

static void add_load(struct progress *p, const struct vkmoe_step_report *report)
{
    if (!p->load || report->step + LOAD_STEPS <= p->steps)
        return;
    for (size_t i = 0; i < (size_t)report->layers * report->experts; i++)
        p->load[i] += report->expert_tokens[i];
    p->load_steps++;
}

enum vkmoe_status run_steps(struct vkmoe_trainer *trainer, struct progress *p, struct vkmoe_step_report *report,
                            const struct run_output *output)
{
    const struct vkmoe_train_config *config = vkmoe_trainer_train(trainer);
    const uint64_t line_every = config->eval_every > 0 ? config->eval_every : (p->steps + 9) / 10;
    uint64_t step = p->first_step, counted = p->first_step;
    enum vkmoe_status status = VKMOE_OK;
    p->started = clock_seconds();
    while (step < p->steps && !noted && status == VKMOE_OK) {
        status = vkmoe_trainer_step(trainer, report);
        step = vkmoe_trainer_steps(trainer);
        if (status != VKMOE_OK)
            break;
        counted = step < counted ? step : counted; /* after a return to a checkpoint */
        if (report->step > counted) {
            counted = report->step;
            add_load(p, report);
            output->live(output->user, p, report);
        }
        if (step == p->steps || step % line_every == 0) {
            status = vkmoe_trainer_finish(trainer, report);
            if (status == VKMOE_OK && report->step > counted) {
                counted = report->step;
                add_load(p, report);
            }
        }
        if (status == VKMOE_OK && step < p->steps && config->eval_every > 0 && step % config->eval_every == 0)
            status = validate(trainer, VALIDATION_TOKENS, p);
        if (status == VKMOE_OK && step < p->steps && step % line_every == 0)
            output->line(output->user, p, report);
        if (status == VKMOE_OK && step < p->steps && config->save_every > 0 && step % config->save_every == 0)
            status = vkmoe_trainer_save_later(trainer);
    }
    /* A validation on as many tokens as the others comes first, by which the checkpoint can be the best. */
    const bool finished = step >= p->steps, sampled = p->held_out > VALIDATION_TOKENS;
    if (status == VKMOE_OK && finished && (!sampled || config->eval_every > 0))
        status = validate(trainer, sampled ? VALIDATION_TOKENS : 0, p);
    if (status == VKMOE_OK)
        status = vkmoe_trainer_save(trainer);
    if (status == VKMOE_OK && finished && sampled)
        status = validate(trainer, 0, p);
    return status;
}
