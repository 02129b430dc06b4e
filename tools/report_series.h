/* Curves and means over seeds, as JSON. Functions that return json_t * return a new reference, or NULL: no memory. */
#ifndef VKMOE_TOOLS_REPORT_SERIES_H
#define VKMOE_TOOLS_REPORT_SERIES_H

#include "report_methods.h"

/* {"mean", "sd", "n"}: over the values that are not NaN; the sample standard deviation, null with fewer than two. */
json_t *mean_json(const double *values, size_t count);
double mean_of(const double *values, size_t count);

/* One number for all layers: {"pes_min": the least PES, "dead": the sum, "seu": the mean, ...}. */
enum { REDUCTIONS = 13 };
const char *reduction_name(size_t reduction);
double reduce(size_t reduction, const double *fields, size_t layers);

/* The method's counted runs at the validations that all of them have, or its one run: {"step": [...], "tokens": [...],
 * "loss": {"mean": [...], "sd": [...]}, and the reductions likewise}. */
json_t *method_curve_json(const struct run *runs, const struct method *method);

/* {"step": [...], "tokens": [...], "loss": [...], and the reductions}: a run's validations, at most 200 of them. */
json_t *validation_json(const struct run *run);
/* The same of its log lines, of which neighbours are averaged into at most 120. */
json_t *log_json(const struct run *run);

/* {"tokens": [...], "share": [[[E] of each layer] at each]}: the load of the experts, 1 is an even share; null where
 * nothing is routed. At most 40, each over the log lines since the last. */
json_t *load_json(const struct run *run);

#endif
