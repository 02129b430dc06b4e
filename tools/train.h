/* What `vkmoe train` prints. */
#ifndef VKMOE_TOOLS_TRAIN_H
#define VKMOE_TOOLS_TRAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <vkmoe/vkmoe.h>

/* Where a run stands, as its output shows it. */
struct progress {
    bool quiet, terminal;
    uint64_t first_step, steps; /* steps done before this process; steps of the whole run */
    double started;             /* clock_seconds when the first step began */
    double first_loss;          /* validation before the first step; NAN where there was none */
    double validation;          /* the newest one; NAN before there is one */
    uint64_t *load;             /* [layers, experts]: routed rows of the last steps */
    uint64_t load_steps;        /* how many steps load sums up */
};

/* Device, data, parameters, and memory by kind against what is there. */
void print_device(const struct vkmoe_device_info *device);
void print_data(const struct vkmoe_data_info *data);
void print_model(const struct vkmoe_model_config *model, const struct vkmoe_train_config *train,
                 const struct vkmoe_estimate *estimate);

/* One line on the terminal; nothing elsewhere. */
void print_live(const struct progress *p, const struct vkmoe_step_report *report);

/* One line that stays. */
void print_step(const struct progress *p, const struct vkmoe_step_report *report);

/* Losses, the load of the experts as bars, and what to do with the model in dir. */
void print_summary(const struct progress *p, const struct vkmoe_step_report *report, const char *dir);

#endif
