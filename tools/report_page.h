/* Pages made from tools/report at build time: what stands in front of the page's JSON and behind it; and the paper's figures
 * as JSON. */
#ifndef VKMOE_TOOLS_REPORT_PAGE_H
#define VKMOE_TOOLS_REPORT_PAGE_H

#include <stddef.h>

extern const unsigned char report_page_head[], report_page_tail[], report_paper[], bench_page_head[], bench_page_tail[];
extern const size_t report_page_head_bytes, report_page_tail_bytes, report_paper_bytes, bench_page_head_bytes,
    bench_page_tail_bytes;

#endif
