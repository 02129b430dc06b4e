/* A small Mixture-of-Experts network learns a picture, on this program's own Vulkan device and in its own frames.
 * README.md says what there is to see; painter.c has the frame. */
#include "painter.h"
#include "window.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The tokens of the busiest expert of the layer that is shown, over the mean of all. */
static double load(const struct vkmoe_stack_report *report, uint64_t layer)
{
    const uint32_t *tokens = report->expert_tokens + (layer - 1) * report->experts;
    double sum = 0, most = 0;
    for (uint32_t e = 0; e < report->experts; e++) {
        sum += tokens[e];
        most = tokens[e] > most ? tokens[e] : most;
    }
    return sum > 0 ? most * report->experts / sum : 0;
}

/* What a finished frame says, in a line; with `out` the frame goes to a file there. */
static bool show(const struct painter *p, const struct image *image, struct window *window, uint64_t frame,
                 double start)
{
    struct vkmoe_stack_report report;
    char line[200], path[4096];
    if (vkmoe_vulkan_report(p->stack, &report))
        return false;
    snprintf(line, sizeof line, "frame %4u  steps %6u  loss %.5f  PSNR %5.2f dB  load %.2f  %.1f s", (unsigned)frame,
             (unsigned)report.step, (double)report.loss, image_psnr(image, p->staging.host, 2 * p->width),
             load(&report, p->options->layer), seconds() - start);
    if (window) {
        window_title(window, line);
        return true;
    }
    if (puts(line) < 0 || fflush(stdout)) {
        fprintf(stderr, "paint: standard output: %s\n", strerror(errno));
        return false;
    }
    if (snprintf(path, sizeof path, "%s/frame-%04u.png", p->options->out, (unsigned)frame) >= (int)sizeof path) {
        fprintf(stderr, "paint: --out: the name is too long\n");
        return false;
    }
    return image_write(path, p->staging.host, 2 * p->width, p->height);
}

static bool draw_frame(struct painter *p, struct window *window, uint32_t steps)
{
    if (!painter_record(p, steps))
        return false;
    if (!window)
        return gpu_submit(p->gpu, VK_NULL_HANDLE, VK_NULL_HANDLE) && gpu_wait(p->gpu);
    return window_record(window, p->gpu, &p->frame, 2 * p->width, p->height) && window_present(window, p->gpu) &&
           gpu_wait(p->gpu);
}

/* The steps of the next frame, where this one had `steps` and took `taken` seconds: at most twice as many. */
static uint32_t adapt(uint32_t steps, double taken, double budget)
{
    const double fit = steps * budget * 1e-3 / taken;
    return fit < 1 ? 1 : fit > 2.0 * steps ? 2 * steps : (uint32_t)fit;
}

static bool press(struct painter *p, char key)
{
    static const char *const balances[] = {"simbal", "lbl", "none"};
    struct vkmoe_balance balance = {0};
    if (key < '1' || key > '3')
        return true;
    return !vkmoe_balance_parse((struct vkmoe_log){0}, balances[key - '1'], &balance) && painter_restart(p, balance);
}

static bool loop(struct painter *p, const struct image *image, struct window *window)
{
    const struct options *o = p->options;
    uint32_t steps = o->steps ? (uint32_t)o->steps : 1;
    const double start = seconds();
    for (uint64_t frame = 1; !o->frames || frame <= o->frames; frame++) {
        const char key = window ? window_key(window) : 0;
        const double begin = seconds();
        if (key == 'q')
            return true;
        if (!press(p, key) || !draw_frame(p, window, steps) || !show(p, image, window, frame, start))
            return false;
        if (!o->steps)
            steps = adapt(steps, seconds() - begin, o->budget);
    }
    return true;
}

/* The directory is there, or is made, and can be written to. */
static bool make_directory(const char *path)
{
    struct stat found;
    if ((!mkdir(path, 0777) || errno == EEXIST) && !stat(path, &found)) {
        errno = S_ISDIR(found.st_mode) ? 0 : ENOTDIR;
        if (!errno && !access(path, W_OK | X_OK))
            return true;
    }
    fprintf(stderr, "paint: %s: %s\n", path, strerror(errno));
    return false;
}

static bool run(const struct options *o, const struct image *image, struct gpu *gpu, struct window **window)
{
    uint32_t count = 0;
    struct painter painter = {0};
    VkSurfaceKHR surface = VK_NULL_HANDLE;
    if (!o->out && !window_open(2 * image->width, image->height, window))
        return false;
    const char *const *extensions = *window ? window_extensions(*window, &count) : NULL;
    if (!gpu_create_instance(gpu, o->validate, extensions, count))
        return false;
    if (*window && !(surface = window_surface(*window, gpu->instance)))
        return false;
    if (!gpu_create_device(gpu, o->device, surface) || (o->out && !make_directory(o->out)))
        return false;
    const bool ok = painter_create(&painter, gpu, o, image) && loop(&painter, image, *window);
    painter_destroy(&painter);
    return ok;
}

int main(int argc, char **argv)
{
    struct options options;
    struct image image;
    struct gpu gpu = {0};
    struct window *window = NULL;
    const enum options_result parsed = options_parse(argc, argv, &options);
    if (parsed != OPTIONS_GO)
        return parsed == OPTIONS_HELP ? 0 : 2;
    if (!(options.image ? image_read(options.image, (uint32_t)options.size, &image)
                        : image_draw((uint32_t)options.size, &image)))
        return 1;
    const bool ok = run(&options, &image, &gpu, &window);
    window_stop(window, &gpu);
    gpu_destroy_device(&gpu);
    window_close(window, gpu.instance);
    gpu_destroy_instance(&gpu);
    image_free(&image);
    if (gpu.messages)
        fprintf(stderr, "paint: %u messages of the validation layers\n", (unsigned)gpu.messages);
    return !ok || gpu.messages;
}
