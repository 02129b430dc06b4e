/* The one line on the terminal that training keeps up to date. */
#ifndef VKMOE_TOOLS_LIVE_H
#define VKMOE_TOOLS_LIVE_H

/* Shows line, which is ASCII, in the place of the line shown before, as far as it fits: at most ten times a second, the
 * rest is dropped. */
void live_show(const char *line);

/* Takes the line off, if one is shown, so that something else can be printed. */
void live_clear(void);

/* Seconds on a clock that only goes forward. */
double clock_seconds(void);

#endif
