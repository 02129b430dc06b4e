/* The command line. */
#ifndef PAINT_OPTIONS_H
#define PAINT_OPTIONS_H

#include <vkmoe/vkmoe.h>

struct options {
    const char *image, *out;   /* NULL: draw one; show a window */
    const char *balance_text;
    struct vkmoe_balance balance;
    uint64_t size, octaves;
    uint64_t experts, top_k, width, hidden, layers, layer;
    uint64_t batch, seed;
    double lr, half;
    uint64_t steps;            /* in a frame; 0: as many as `budget` allows */
    double budget;             /* milliseconds */
    uint64_t frames;           /* 0: until the window is closed */
    int device;
    bool validate;
};

enum options_result { OPTIONS_GO, OPTIONS_HELP, OPTIONS_BAD };
/* Fills *out with the defaults and what argv says; prints the help, or one line on stderr that says what is wrong. */
enum options_result options_parse(int argc, char **argv, struct options *out);

#endif
