/* The nth allocation, or the nth Vulkan call that can fail, fails: for every n that a host's use of a stack reaches. Each time
 * one line says so, a status tells it, and everything is given back. And so when the device is lost from some call on. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "host_fixture.h"
#include "scratch_dir.h"

/* ---- what fails -------------------------------------------------------------------------------------------------- */

static struct {
    long left;                  /* opportunities before the one that fails; below 0: nothing fails */
    const char *what;           /* failed */
    PFN_vkGetInstanceProcAddr get_instance_proc_addr;
    PFN_vkGetDeviceProcAddr get_device_proc_addr;
    const char *lost_in;        /* the call that finds the device lost, when `left` is reached */
    bool lost;                  /* since then */
} fault = {.left = -1};

static bool fails(const char *what)
{
    if (fault.lost_in || fault.left < 0 || fault.left-- > 0)
        return false;
    fault.what = what;
    return true;
}

static bool is_lost(const char *call)
{
    if (fault.lost_in && !fault.lost && strcmp(call, fault.lost_in) == 0 && fault.left-- == 0)
        fault.lost = true;
    return fault.lost;
}

/* The library's own allocations: the linker sends them here. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
    return fails("malloc") ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails("calloc") ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails("realloc") ? NULL : __real_realloc(old, size);
}

/* name(result when it fails, parameters, arguments). What fails has not happened, but for a wait, which is over. */
#define VULKAN_CALLS(X)                                                                                                    \
    X(AllocateCommandBuffers, OUT_OF_HOST_MEMORY,                                                                          \
      (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *o), (d, i, o))                                   \
    X(AllocateMemory, OUT_OF_DEVICE_MEMORY,                                                                                \
      (VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a, VkDeviceMemory *o), (d, i, a, o))        \
    X(BeginCommandBuffer, OUT_OF_HOST_MEMORY, (VkCommandBuffer c, const VkCommandBufferBeginInfo *i), (c, i))              \
    X(BindBufferMemory, OUT_OF_DEVICE_MEMORY, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize o), (d, b, m, o))    \
    X(CreateBuffer, OUT_OF_HOST_MEMORY,                                                                                    \
      (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a, VkBuffer *o), (d, i, a, o))                \
    X(CreateCommandPool, OUT_OF_HOST_MEMORY,                                                                               \
      (VkDevice d, const VkCommandPoolCreateInfo *i, const VkAllocationCallbacks *a, VkCommandPool *o), (d, i, a, o))      \
    X(CreateComputePipelines, OUT_OF_HOST_MEMORY,                                                                          \
      (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a,    \
       VkPipeline *o), (d, c, n, i, a, o))                                                                                 \
    X(CreatePipelineCache, OUT_OF_HOST_MEMORY,                                                                             \
      (VkDevice d, const VkPipelineCacheCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineCache *o), (d, i, a, o))  \
    X(CreatePipelineLayout, OUT_OF_HOST_MEMORY,                                                                            \
      (VkDevice d, const VkPipelineLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineLayout *o), (d, i, a, o)) \
    X(CreateSemaphore, OUT_OF_HOST_MEMORY,                                                                                 \
      (VkDevice d, const VkSemaphoreCreateInfo *i, const VkAllocationCallbacks *a, VkSemaphore *o), (d, i, a, o))          \
    X(CreateShaderModule, OUT_OF_HOST_MEMORY,                                                                              \
      (VkDevice d, const VkShaderModuleCreateInfo *i, const VkAllocationCallbacks *a, VkShaderModule *o), (d, i, a, o))    \
    X(EndCommandBuffer, OUT_OF_HOST_MEMORY, (VkCommandBuffer c), (c))                                                      \
    X(MapMemory, MEMORY_MAP_FAILED,                                                                                        \
      (VkDevice d, VkDeviceMemory m, VkDeviceSize f, VkDeviceSize s, VkMemoryMapFlags g, void **o), (d, m, f, s, g, o))

#define WRAP(name, error, parameters, arguments)                                                                           \
    static PFN_vk##name real_##name;                                                                                       \
    static VKAPI_ATTR VkResult VKAPI_CALL wrap_##name parameters                                                           \
    {                                                                                                                      \
        return fails("vk" #name) ? VK_ERROR_##error : real_##name arguments;                                               \
    }
VULKAN_CALLS(WRAP)

static PFN_vkQueueSubmit2 real_QueueSubmit2;
static VKAPI_ATTR VkResult VKAPI_CALL wrap_QueueSubmit2(VkQueue q, uint32_t n, const VkSubmitInfo2 *i, VkFence f)
{
    if (is_lost("vkQueueSubmit2"))
        return VK_ERROR_DEVICE_LOST;
    return fails("vkQueueSubmit2") ? VK_ERROR_OUT_OF_HOST_MEMORY : real_QueueSubmit2(q, n, i, f);
}

static PFN_vkGetSemaphoreCounterValue real_GetSemaphoreCounterValue;
static VKAPI_ATTR VkResult VKAPI_CALL wrap_GetSemaphoreCounterValue(VkDevice d, VkSemaphore s, uint64_t *value)
{
    return is_lost("vkGetSemaphoreCounterValue") ? VK_ERROR_DEVICE_LOST : real_GetSemaphoreCounterValue(d, s, value);
}

/* A lost device ends what it was doing, and waits end. */
static PFN_vkWaitSemaphores real_WaitSemaphores;
static VKAPI_ATTR VkResult VKAPI_CALL wrap_WaitSemaphores(VkDevice d, const VkSemaphoreWaitInfo *i, uint64_t timeout)
{
    const VkResult result = real_WaitSemaphores(d, i, timeout);
    if (is_lost("vkWaitSemaphores"))
        return VK_ERROR_DEVICE_LOST;
    return result == VK_SUCCESS && fails("vkWaitSemaphores") ? VK_ERROR_DEVICE_LOST : result;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name)
{
#define FIND(call, ...)                                                                                                    \
    if (!strcmp(name, "vk" #call)) {                                                                                       \
        real_##call = (PFN_vk##call)fault.get_device_proc_addr(device, name);                                              \
        return (PFN_vkVoidFunction)wrap_##call;                                                                            \
    }
    VULKAN_CALLS(FIND)
    FIND(GetSemaphoreCounterValue, DEVICE_LOST, (), ())
    FIND(QueueSubmit2, DEVICE_LOST, (), ())
    FIND(WaitSemaphores, DEVICE_LOST, (), ())
    return fault.get_device_proc_addr(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction found = fault.get_instance_proc_addr(instance, name);
    if (strcmp(name, "vkGetDeviceProcAddr") != 0)
        return found;
    fault.get_device_proc_addr = (PFN_vkGetDeviceProcAddr)found;
    return (PFN_vkVoidFunction)device_proc;
}

/* ---- what is done ------------------------------------------------------------------------------------------------ */

enum { ROWS = 8, IN = 2, OUT = 3 };

static const struct vkmoe_stack_config config = {.d_in = IN, .d_out = OUT, .d_model = 4, .experts = 2, .top_k = 1, .d_expert = 4,
                                                 .batch = ROWS};

static struct host host;
static VkCommandBuffer commands;

static enum vkmoe_status adopt(struct vkmoe_context **ctx)
{
    struct vkmoe_vulkan_desc desc = host_desc(&host, host.needs->liked, true);
    desc.get_instance_proc_addr = instance_proc;
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
