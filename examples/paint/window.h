/* The window, by SDL2. A program that was built without SDL2 has none: window_open says so and returns false. */
#ifndef PAINT_WINDOW_H
#define PAINT_WINDOW_H

#include "gpu.h"

struct window;

/* Before the instance is created, which needs the extensions. false: one line on stderr says what to do instead. */
bool window_open(uint32_t width, uint32_t height, struct window **out);
const char *const *window_extensions(const struct window *window, uint32_t *count);
VkSurfaceKHR window_surface(struct window *window, VkInstance instance);
/* Before the device is destroyed, then before the instance. NULL may be given. */
void window_stop(struct window *window, struct gpu *gpu);
void window_close(struct window *window, VkInstance instance);

/* The key that was pressed since the last call: '1', '2', '3', 'q' to quit (or the window was closed), else 0. */
char window_key(struct window *window);
void window_title(struct window *window, const char *title);

/* Takes the next image of the window and records that it gets rgba [height, width, 4]. Where there is none to be had
 * now (the window is hidden or changes its size) no copy is recorded, and present only submits. */
bool window_record(struct window *window, struct gpu *gpu, const struct buffer *rgba, uint32_t width, uint32_t height);
/* Submits gpu->commands and shows the image. */
bool window_present(struct window *window, struct gpu *gpu);

#endif
