/* The report on one or more runs: report.json for programs, report.html for people. */
#ifndef VKMOE_TOOLS_REPORT_H
#define VKMOE_TOOLS_REPORT_H

#include <stddef.h>

#define REPORT_PAGE "report.html"

/* Reads the run directories and writes both files into out_dir, which is created where it is not there; NULL: the runs'
 * parent, which then has to hold a compare.json. Returns the exit status, after one line on stderr where it is not 0;
 * stdout gets nothing. */
int report_write(const char *const *runs, size_t count, const char *out_dir);

#endif
