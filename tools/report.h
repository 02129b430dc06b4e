/* The report of finished runs. */
#ifndef VKMOE_TOOLS_REPORT_H
#define VKMOE_TOOLS_REPORT_H

#include <stddef.h>

/* Writes report.json and report.html of the run directories into out_dir. EXIT_OK, or EXIT_FAILED after a message. */
int report_write(const char *const *runs, size_t count, const char *out_dir);

#endif
