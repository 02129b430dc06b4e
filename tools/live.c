#include "live.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* The terminal is one for the process, and so is this. */
static bool shown;
static double shown_at;

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* What fits the terminal: a line that wraps could not be taken off. */
static int columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 1000;
}

void live_show(const char *line)
{
    const double now = clock_seconds();
    if (shown && now - shown_at < 0.1)
        return;
    printf("\r%.*s\033[K", columns(), line);
    fflush(stdout);
    shown = true;
    shown_at = now;
}

void live_clear(void)
{
    if (!shown)
        return;
    fputs("\r\033[K", stdout);
    fflush(stdout);
    shown = false;
}
