/* What the subcommands that train print. */
#ifndef VKMOE_TOOLS_PRINT_H
#define VKMOE_TOOLS_PRINT_H

#include <stdint.h>
#include <vkmoe/vkmoe.h>

#include "run.h"

/* Device, data, parameters, and memory by kind against what is there. */
void print_device(const struct vkmoe_device_info *device);
void print_data(const struct vkmoe_data_info *data);
void print_model(const struct vkmoe_model_config *model, const struct vkmoe_train_config *train,
                 const struct vkmoe_estimate *estimate);

/* A block of 1 to 8 eighths of a line. */
const char *bar(double eighths);

/* Experts that got no token in a step, in all layers. */
uint64_t dead_experts(const struct vkmoe_step_report *report);

/* How `vkmoe train` shows a run: one line on the terminal, nothing elsewhere; and one line that stays. */
extern const struct run_output train_output;

/* Losses, the load of the experts as bars, and what to do with the model in dir. */
void print_summary(const struct progress *p, const struct vkmoe_step_report *report, const char *dir,
                   const char *checkpoint);

#endif
