/* The nth allocation, or the nth Vulkan call that can fail, fails: for every n that a host's use of a stack reaches. Each time
 * one line says so, a status tells it, and everything is given back. And so when the device is lost from some call on. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fault_fixture.h"
#include "host_fixture.h"
#include "scratch_dir.h"

/* ---- what is done ------------------------------------------------------------------------------------------------ */

enum { ROWS = 8, IN = 2, OUT = 3 };

static const struct vkmoe_stack_config config = {.d_in = IN, .d_out = OUT, .d_model = 4, .experts = 2, .top_k = 1, .d_expert = 4,
                                                 .batch = ROWS};

static struct host host;
static VkCommandBuffer commands;

static enum vkmoe_status adopt(struct vkmoe_context **ctx)
{
    struct vkmoe_vulkan_desc desc = host_desc(&host, host.needs->liked, true);
    desc.get_instance_proc_addr = fault_instance_proc;
    return vkmoe_context_adopt(&desc, ctx);
}

static enum vkmoe_status record(struct vkmoe_stack *stack)
{
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    const struct vkmoe_vulkan_array array = {.address = 1 << 16, .bytes = 1 << 16}; /* it is never submitted */
    cr_assert_eq(host.vk.BeginCommandBuffer(commands, &begin), VK_SUCCESS);
    const enum vkmoe_status status =
        vkmoe_vulkan_record_step(stack, &(struct vkmoe_vulkan_record){.commands = commands}, &array, &array);
    cr_assert_eq(host.vk.EndCommandBuffer(commands), VK_SUCCESS);
    return status;
}

/* On a context of its own: all pipelines are made. */
static enum vkmoe_status open_and_record(struct vkmoe_context **none)
{
    struct vkmoe_context *ctx = NULL;
    struct vkmoe_stack *stack = NULL;
    enum vkmoe_status status = adopt(&ctx);
    (void)none;
    if (!status && !(status = vkmoe_stack_create(ctx, &config, &stack)))
        status = record(stack);
    vkmoe_stack_destroy(stack);
    vkmoe_context_destroy(ctx);
    return status;
}

/* On a context that stays, unless it is lost. */
static enum vkmoe_status use(struct vkmoe_context **ctx)
{
    struct vkmoe_stack *stack = NULL, *loaded = NULL;
    struct vkmoe_stack_report report;
    const float in[ROWS * IN] = {1, -1}, target[ROWS * OUT] = {0.5f};
    float out[ROWS * OUT];
    enum vkmoe_status status = vkmoe_stack_create(*ctx, &config, &stack);
    if (!status && !(status = record(stack)) && !(status = vkmoe_stack_step(stack, in, target, &report)) &&
        !(status = vkmoe_stack_forward(stack, ROWS, in, out, NULL, NULL)) && !(status = vkmoe_stack_save(stack, at("stack"))))
        status = vkmoe_stack_load(*ctx, at("stack"), &loaded);
    vkmoe_stack_destroy(loaded);
    vkmoe_stack_destroy(stack);
    return status;
}

/* Runs it with each fault that it reaches, and once without. */
static long with_each_fault(enum vkmoe_status (*what_is_done)(struct vkmoe_context **ctx), struct vkmoe_context **ctx)
{
    long n = 0;
    for (bool reached = true; reached; n++) {
        const long before = host.live;
        seen.errors = 0;
        fault.left = n;
        fault.what = NULL;
        const enum vkmoe_status status = what_is_done(ctx);
        const char *what = fault.what ? fault.what : "none";
        reached = fault.what != NULL;
        fault.left = -1;
        cr_expect_eq(status != VKMOE_OK, reached, "fault %ld, %s: status %d", n, what, (int)status);
        cr_expect_eq(seen.errors, reached, "fault %ld, %s: %u lines, the last \"%s\"", n, what, seen.errors, seen.last);
        cr_expect_eq(host.live, before, "fault %ld, %s: %ld allocations, %ld before", n, what, host.live, before);
        if (ctx && status == VKMOE_ERROR_DEVICE_LOST) {
            vkmoe_context_destroy(*ctx);
            cr_assert_eq(adopt(ctx), VKMOE_OK);
            cr_assert_eq(what_is_done(ctx), VKMOE_OK);
        }
    }
    return n - 1;
}

/* A device that one of the calls finds lost, at each time that it is called: false when it was not called so often. */
static bool lose_in(const char *call, long nth)
{
    struct vkmoe_context *ctx = NULL;
    struct vkmoe_stack *stack = NULL;
    const float in[ROWS * IN] = {1, -1}, target[ROWS * OUT] = {0.5f};
    float out[ROWS * OUT];
    const long before = host.live;
    seen.errors = 0;
    cr_assert_eq(adopt(&ctx), VKMOE_OK, "%s", seen.last);
    fault.lost_in = call;
    fault.left = nth;
    enum vkmoe_status status = vkmoe_stack_create(ctx, &config, &stack);
    for (int i = 0; i < 3 && !status; i++)
        status = vkmoe_stack_step(stack, in, target, NULL);
    const bool lost = fault.lost;
    cr_expect_eq(status, lost ? VKMOE_ERROR_DEVICE_LOST : VKMOE_OK, "%s %ld: status %d", call, nth, (int)status);
    cr_expect_eq(vkmoe_context_lost(ctx), lost);
    cr_expect_eq(seen.errors, lost, "%s %ld: %u lines, the last \"%s\"", call, nth, seen.errors, seen.last);
    if (lost) {
        const bool waits = strcmp(call, "vkQueueSubmit2") != 0; /* else nothing is on the device */
        cr_expect(strstr(seen.last, call) || strcmp(call, "vkGetSemaphoreCounterValue") == 0, "%s: %s", call, seen.last);
        cr_expect(strstr(seen.last, "lost the device") && (!waits || strstr(seen.last, ", in \"")), "%s", seen.last);
    }
    if (lost && stack) {
        cr_expect_eq(vkmoe_stack_forward(stack, ROWS, in, out, NULL, NULL), VKMOE_ERROR_DEVICE_LOST);
        cr_expect_eq(seen.errors, 1, "%s", seen.last);
    }
    const double start = vkm_seconds();
    vkmoe_stack_destroy(stack);
    vkmoe_context_destroy(ctx);
    cr_expect(vkm_seconds() - start < 5, "%s %ld: %.1f s to be destroyed", call, nth, vkm_seconds() - start);
    cr_expect_eq(host.live, before, "%s %ld: %ld allocations, %ld before", call, nth, host.live, before);
    fault.lost_in = NULL;
    fault.lost = false;
    fault.left = -1;
    seen.errors = 0;
    return lost;
}

static void begin(void)
{
    host_begin(&host);
    host_open(&host, host.needs->liked, true);
    fault.get_instance_proc_addr = host.vk.GetInstanceProcAddr;
}

Test(faults, a_lost_device)
{
    static const char *const calls[] = {"vkQueueSubmit2", "vkWaitSemaphores", "vkGetSemaphoreCounterValue"};
    begin();
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        long n = 0;
        while (lose_in(calls[i], n))
            n++;
        cr_expect(n >= 3, "%s was called %ld times", calls[i], n);
    }
    host_end(&host);
}

Test(faults, fail_cleanly, .init = scratch_begin, .fini = scratch_end)
{
    struct host *h = &host;
    struct vkmoe_context *ctx;
    begin();
    const VkCommandPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = h->needs->queue_family};
    VkCommandBufferAllocateInfo one = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandBufferCount = 1};
    cr_assert_eq(h->vk.CreateCommandPool(h->vk.device, &info, NULL, &one.commandPool), VK_SUCCESS);
    cr_assert_eq(h->vk.AllocateCommandBuffers(h->vk.device, &one, &commands), VK_SUCCESS);
    const long opening = with_each_fault(open_and_record, NULL);
    cr_assert_eq(adopt(&ctx), VKMOE_OK);
    cr_assert_eq(use(&ctx), VKMOE_OK, "%s", seen.last); /* now it has its pipelines */
    const long using = with_each_fault(use, &ctx);
    fprintf(stderr, "%ld faults while a context is opened, %ld while it is used\n", opening, using);
    cr_expect(opening > 100 && using > 100);
    vkmoe_context_destroy(ctx);
    seen.errors = 0;
    h->vk.DestroyCommandPool(h->vk.device, one.commandPool, NULL);
    host_end(h);
}
