/* A training run from its first step or a checkpoint to its last step or the first Ctrl-C, validations included. */
#ifndef VKMOE_TOOLS_RUN_H
#define VKMOE_TOOLS_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <vkmoe/vkmoe.h>

/* What a validation or evaluation found about the routers, over the layers. NAN where there is nothing to say. */
struct router_summary {
    double entropy, seu; /* means */
    double pes;          /* the least */
    uint32_t pes_layer;  /* where that is */
    uint64_t dead;       /* in all layers */
};

/* Where a run stands, as its output shows it. */
struct progress {
    bool quiet, terminal;
    uint64_t first_step, steps; /* steps done before this process; steps of the whole run */
    uint64_t held_out;          /* tokens */
    double started;             /* clock_seconds when the first step began */
    double first_loss;          /* validation before the first step; NAN where there was none */
    double validation;          /* the newest one; NAN before there is one */
    struct router_summary routers; /* of that one; pes is the newest measured */
    uint64_t *load;             /* [layers, experts]: routed rows of the last steps */
    uint64_t load_steps;        /* how many steps load sums up */
};

/* Who shows it: live after each step, line where a validation is done (or a tenth of the run). */
struct run_output {
    void (*live)(void *user, const struct progress *p, const struct vkmoe_step_report *report);
    void (*line)(void *user, const struct progress *p, const struct vkmoe_step_report *report);
    void *user;
};

/* The first SIGINT or SIGTERM is noted from now on; a second one ends the process. */
void catch_signals(void);
/* The signal noted, or 0. */
int stop_signal(void);

/* Sets *p up; a run at its beginning is validated. run_end frees what *p holds. */
enum vkmoe_status run_begin(struct vkmoe_trainer *trainer, const struct vkmoe_data *data, bool quiet, struct progress *p);
/* Trains to the last step, which is followed by a validation on everything held out, or to the first signal. The
 * checkpoint is written in both cases. */
enum vkmoe_status run_steps(struct vkmoe_trainer *trainer, struct progress *p, struct vkmoe_step_report *report,
                            const struct run_output *output);
void run_end(struct progress *p);

#endif
