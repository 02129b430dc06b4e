/* A device that hangs or is slow: one line says where, within the time allowed, and nothing waits for it any more. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "gpu/context.h"
#include "host_fixture.h"

/* What a device that hangs has is left there, and to LeakSanitizer that is the driver's leak. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libvulkan_lvp\nleak:libLLVM\n";
}

enum { ROWS = 8, IN = 2, OUT = 3 };

static const struct vkmoe_stack_config config = {.d_in = IN, .d_out = OUT, .d_model = 4, .experts = 2, .top_k = 1, .d_expert = 4,
                                                 .batch = ROWS};

/* Functions that the library has no use for. */
#define DEVICE_PROC(h, name) ((PFN_##name)(h)->vk.GetDeviceProcAddr((h)->vk.device, #name))

static struct vkmoe_context *adopt(struct host *h, uint32_t timeout_seconds)
{
    struct vkmoe_context *ctx;
    struct vkmoe_vulkan_desc desc = host_desc(h, h->needs->liked, true);
    desc.timeout_seconds = timeout_seconds;
    cr_assert_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_OK, "%s", seen.last);
    return ctx;
}

static void expect_between(double start, double least, double most)
{
    const double seconds = vkm_seconds() - start;
    cr_expect(seconds >= least && seconds <= most, "it took %.2f s instead of %.2f to %.2f", seconds, least, most);
}

/* A timeline's, at 0. */
static VkSemaphore semaphore(struct host *h)
{
    VkSemaphore out;
    const VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                            .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    cr_assert_eq(h->vk.CreateSemaphore(h->vk.device, &info, NULL, &out), VK_SUCCESS);
    return out;
}

/* Signals it, so that the queue goes on, and destroys it. */
static void let_go(struct host *h, VkSemaphore waited)
{
    const VkSemaphoreSignalInfo signal = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO, .semaphore = waited, .value = 1};
    cr_assert_eq(DEVICE_PROC(h, vkSignalSemaphore)(h->vk.device, &signal), VK_SUCCESS);
    cr_assert_eq(DEVICE_PROC(h, vkDeviceWaitIdle)(h->vk.device), VK_SUCCESS);
    h->vk.DestroySemaphore(h->vk.device, waited, NULL);
}

/* What a hanging device keeps is the host's to let go with the rest: here, once the device is through with it. */
static void host_end_with_rest(struct host *h)
{
    cr_assert_eq(DEVICE_PROC(h, vkDeviceWaitIdle)(h->vk.device), VK_SUCCESS);
    cr_expect(h->live > 0, "something was destroyed that the device still used");
    cr_expect_eq(h->complaints, 0, "%s", seen.last);
    host_forget_rest(h);
    host_end(h);
}

/* The queue waits for what nobody signals. */
Test(watch, a_hanging_device_is_left_alone)
{
    struct host h;
    struct vkmoe_stack *stack;
    struct vkmoe_stack_report report;
    float in[ROWS * IN] = {1, -1}, target[ROWS * OUT] = {0.5f}, out[ROWS * OUT];
    host_begin(&h);
    host_open(&h, h.needs->liked, true);
    const VkSemaphore never = semaphore(&h);
    struct vkmoe_context *ctx = adopt(&h, 0);
    cr_assert_eq(vkmoe_stack_create(ctx, &config, &stack), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkmoe_stack_step(stack, in, target, &report), VKMOE_OK, "%s", seen.last);
    cr_expect(!vkmoe_context_lost(ctx));
    ctx->timeout_seconds = 1; /* from here on: some drivers compile when a kernel first runs */

    vkmoe_vulkan_wait_for(ctx, never, 1);
    double start = vkm_seconds();
    cr_expect_eq(vkmoe_stack_step(stack, in, target, &report), VKMOE_ERROR_DEVICE_LOST);
    expect_between(start, 0.9, 1.6);
    cr_expect(seen.errors == 1 && strstr(seen.last, "finished nothing for 1 s, in \"stack step\", which waits for a semaphore"),
              "%u lines, the last: %s", seen.errors, seen.last);
    cr_expect(vkmoe_context_lost(ctx));

    start = vkm_seconds();
    cr_expect_eq(vkmoe_stack_forward(stack, ROWS, in, out, NULL, NULL), VKMOE_ERROR_DEVICE_LOST);
    cr_expect_eq(seen.errors, 1, "%s", seen.last);
    vkmoe_stack_destroy(stack);
    vkmoe_context_destroy(ctx);
    expect_between(start, 0, 0.2);

    let_go(&h, never);
    host_end_with_rest(&h);
}

/* A dispatch of many workgroups that find nothing to do. */
static void record_slow(struct vkmoe_context *ctx, struct vkm_rec *rec, struct vkm_buf dst, uint32_t rows)
{
    struct vkm_fill_args args;
    struct vkm_dispatch d = fill(ctx, &args, dst, 3, (struct vkm_buf){0});
    d.label = "test.slow";
    d.groups = (struct vkm_groups){ctx->caps.max_groups, rows, 1};
    vkm_rec_dispatch(rec, &d);
}

/* Rows of workgroups that take so long. */
static uint32_t rows_of(struct vkmoe_context *ctx, struct vkm_buf dst, double seconds)
{
    for (uint32_t rows = 1;; rows *= 4) {
        double took = seconds;
        for (int i = 0; i < 3; i++) { /* the least: what else runs there may have kept it waiting */
            struct vkm_rec *rec = recording(ctx);
            record_slow(ctx, rec, dst, rows);
            const double start = vkm_seconds();
            cr_assert_eq(vkm_rec_run_once(rec), VKMOE_OK, "%s", seen.last);
            const double now = vkm_seconds() - start;
            took = now < took ? now : took;
        }
        const double wanted = seconds / took * rows;
        if (took > 0.1 || rows > ctx->caps.max_groups / 4)
            return wanted < ctx->caps.max_groups ? (uint32_t)wanted + 1 : ctx->caps.max_groups;
    }
}

Test(watch, a_slow_operation_is_named)
{
    struct host h;
    host_begin(&h);
    host_open(&h, h.needs->liked, true);
    struct vkmoe_context *patient = adopt(&h, 0), *ctx = adopt(&h, 1);
    struct three slow = three(patient, 4096), t = three(ctx, 4096);
    const uint32_t rows = rows_of(patient, slow.a, 4);
    if (rows == patient->caps.max_groups)
        fprintf(stderr, "not tested: the device is too fast for a slow operation\n");
    struct vkm_rec *rec = recording(ctx);
    vkm_rec_fill(rec, t.a, 1);
    vkm_rec_push(rec, "layer %d", 3);
    record_slow(ctx, rec, t.a, rows);
    vkm_rec_pop(rec);
    vkm_rec_fill(rec, t.a, 2);
    cr_assert_eq(vkm_rec_end(rec), VKMOE_OK, "%s", seen.last);
    uint64_t ticket;
    cr_assert_eq(vkm_rec_submit(rec, &ticket), VKMOE_OK, "%s", seen.last);
    const double start = vkm_seconds();
    const enum vkmoe_status status = vkm_wait(ctx, ticket);
    if (rows < patient->caps.max_groups) {
        expect_between(start, 0.9, 1.6);
        cr_expect_eq(status, VKMOE_ERROR_DEVICE_LOST);
        cr_expect(seen.errors == 1 && strstr(seen.last, ", in \"test\", operation \"layer 3/test.slow\" (2 of 3);"),
                  "%u lines, the last: %s", seen.errors, seen.last);
    }
    vkm_rec_destroy(rec);
    vkm_arena_destroy(t.arena);
    vkmoe_context_destroy(ctx);
    vkm_arena_destroy(slow.arena);
    vkmoe_context_destroy(patient); /* waits for none but its own */
    if (status)
        host_end_with_rest(&h);
    else
        host_end(&h);
}

/* A destroy function that is the first to wait for it. */
Test(watch, destroying_finds_it)
{
    struct host h;
    host_begin(&h);
    host_open(&h, h.needs->liked, true);
    const VkSemaphore never = semaphore(&h);
    struct vkmoe_context *ctx = adopt(&h, 1);
    struct three t = three(ctx, 4096);
    struct vkm_rec *rec = recording(ctx);
    vkm_rec_fill(rec, t.a, 1);
    cr_assert_eq(vkm_rec_end(rec), VKMOE_OK);
    vkmoe_vulkan_wait_for(ctx, never, 1);
    cr_assert_eq(vkm_rec_submit(rec, NULL), VKMOE_OK);
    const double start = vkm_seconds();
    vkm_rec_destroy(rec);
    vkm_arena_destroy(t.arena);
    vkmoe_context_destroy(ctx);
    expect_between(start, 0.9, 1.6);
    cr_expect(seen.errors == 0 && seen.warnings == 1 && strstr(seen.last, "is left there"), "%s", seen.last);
    let_go(&h, never);
    host_end_with_rest(&h);
}
