/* Runs grouped by what they compare: one method, several seeds. */
#ifndef VKMOE_TOOLS_REPORT_METHODS_H
#define VKMOE_TOOLS_REPORT_METHODS_H

#include "report_run.h"

struct method {
    char label[192];           /* base, and what sets methods of the same base apart: "simbal, router-init unit" */
    char base[VKMOE_BALANCE_TEXT]; /* as vkmoe_balance_format words the balance, or "dense" */
    size_t *runs;              /* indices, in the order the runs were given */
    size_t count;
    size_t *counted;           /* those that means are over: the finished ones, or all where none is; in runs' block */
    size_t counted_count;
    bool finished;             /* the counted ones are */
    bool dense;
};

struct methods {
    struct method *list;
    size_t count;
    size_t baseline;           /* the usual loss alone (lbl), or else the first */
};

/* Groups the runs, in the order of compare.json's "methods" (compare may be NULL) and then in that of the runs. false
 * after a message; *out is released with methods_free either way. */
bool methods_find(const struct run *runs, size_t count, const json_t *compare, struct methods *out);
void methods_free(struct methods *methods);

#endif
