/* The contents of report.json; docs/report.md describes its fields. */
#ifndef VKMOE_TOOLS_REPORT_JSON_H
#define VKMOE_TOOLS_REPORT_JSON_H

#include "report_methods.h"

/* A new reference; NULL: no memory. compare may be NULL; paper: the paper's figures, copied as they are. */
json_t *report_json(const struct run *runs, size_t count, const struct methods *methods, const json_t *compare,
                    const json_t *paper);

#endif
