/* A context on a host's device: the host makes instance, device and queue as it likes, and gets the bits that a context of
 * the library's own gives. */
#include <vkmoe/vulkan.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/device.h"
#include "train_fixture.h"

/* ---- a host ----------------------------------------------------------------------------------------------------- */

struct host {
    struct vkm_vk vk;           /* how this one loads Vulkan */
    VkDebugUtilsMessengerEXT messenger;
    VkPhysicalDevice physical;
    VkQueue queue;
    struct vkmoe_vulkan_needs *needs;
    bool debug_utils;
    unsigned complaints;        /* of the validation layers */
    pthread_mutex_t mutex;      /* of the queue */
    unsigned locks;             /* how often it was taken */
    long live, allocations;     /* of the allocator */
    VkAllocationCallbacks allocator;
};

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    struct host *h = user;
    (void)severity;
    (void)types;
    h->complaints++;
    snprintf(seen.last, sizeof seen.last, "%s", data->pMessage);
    return VK_FALSE;
}

static void lock(void *user)
{
    struct host *h = user;
    pthread_mutex_lock(&h->mutex);
    h->locks++;
}

static void unlock(void *user)
{
    struct host *h = user;
    pthread_mutex_unlock(&h->mutex);
}

/* Memory with its size before it, as reallocation needs it. */
enum { HEAD = 256 };

static VKAPI_ATTR void *VKAPI_CALL allocate(void *user, size_t size, size_t alignment, VkSystemAllocationScope scope)
{
    struct host *h = user;
    (void)scope;
    cr_assert(alignment <= HEAD);
    char *p = aligned_alloc(HEAD, HEAD + (size + HEAD - 1) / HEAD * HEAD);
    if (!p)
        return NULL;
    memcpy(p, &size, sizeof size);
    __atomic_add_fetch(&h->live, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&h->allocations, 1, __ATOMIC_RELAXED);
    return p + HEAD;
}

static VKAPI_ATTR void VKAPI_CALL release(void *user, void *memory)
{
    struct host *h = user;
    if (!memory)
        return;
    __atomic_sub_fetch(&h->live, 1, __ATOMIC_RELAXED);
    free((char *)memory - HEAD);
}

static VKAPI_ATTR void *VKAPI_CALL reallocate(void *user, void *old, size_t size, size_t alignment,
                                              VkSystemAllocationScope scope)
{
    size_t bytes = 0;
    void *new = size ? allocate(user, size, alignment, scope) : NULL;
    if (old && new) {
        memcpy(&bytes, (char *)old - HEAD, sizeof bytes);
        memcpy(new, old, bytes < size ? bytes : size);
    }
    if (new || !size)
        release(user, old);
    return new;
}

/* An instance under the validation layers where they are installed, and the first device. */
static void host_begin(struct host *h)
{
    *h = (struct host){.mutex = PTHREAD_MUTEX_INITIALIZER, .allocator = {.pUserData = h, .pfnAllocation = allocate, .pfnReallocation = reallocate, .pfnFree = release}};
    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT, .pfnUserCallback = on_message, .pUserData = h};
    uint32_t one = 1;
    const bool open = vkm_vk_open(&h->vk, &test_log) == VKMOE_OK;
    bool made = open && vkm_instance_create(&h->vk, &test_log, &messenger, &h->debug_utils) == VKMOE_OK;
    if (made)
        cr_assert_eq(h->vk.CreateDebugUtilsMessengerEXT(h->vk.instance, &messenger, NULL, &h->messenger), VK_SUCCESS);
    else
        made = open && vkm_instance_create(&h->vk, &test_log, NULL, &h->debug_utils) == VKMOE_OK;
    if (!made || h->vk.EnumeratePhysicalDevices(h->vk.instance, &one, &h->physical) < 0 || !one) {
        cr_assert(!getenv("VKMOE_REQUIRE_DEVICE"), "%s", seen.last);
        cr_skip_test("no Vulkan device");
    }
    seen.errors = 0;
    cr_assert_eq(vkmoe_vulkan_needs_query(test_log, h->vk.GetInstanceProcAddr, h->vk.instance, h->physical, &h->needs),
                 VKMOE_OK, "%s", seen.last);
}

static void host_open(struct host *h, const VkPhysicalDeviceFeatures2 *features, bool extensions)
{
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = h->needs->queue_family, .queueCount = 1,
                                           .pQueuePriorities = &priority};
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = features,
                                     .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue,
                                     .enabledExtensionCount = extensions ? h->needs->extension_count : 0,
                                     .ppEnabledExtensionNames = h->needs->extensions};
    cr_assert_eq(h->vk.CreateDevice(h->physical, &info, NULL, &h->vk.device), VK_SUCCESS);
    cr_assert_eq(vkm_vk_load_device(&h->vk, &test_log), VKMOE_OK);
    h->vk.GetDeviceQueue(h->vk.device, h->needs->queue_family, 0, &h->queue);
}

static struct vkmoe_vulkan_desc desc_of(struct host *h, const VkPhysicalDeviceFeatures2 *features, bool extensions)
{
    return (struct vkmoe_vulkan_desc){
        .log = test_log, .get_instance_proc_addr = h->vk.GetInstanceProcAddr, .instance = h->vk.instance,
        .physical_device = h->physical, .device = h->vk.device, .queue = h->queue, .queue_family = h->needs->queue_family,
        .features = features, .extensions = extensions ? h->needs->extensions : NULL,
        .extension_count = extensions ? h->needs->extension_count : 0, .debug_utils = h->debug_utils,
        .queue_lock = lock, .queue_unlock = unlock, .queue_user = h, .allocator = &h->allocator};
}

/* The device is still the host's, nothing is left on it, and no layer has complained. */
static void host_end(struct host *h)
{
    cr_expect_eq(pthread_mutex_trylock(&h->mutex), 0, "the queue's lock was not released");
    cr_expect_eq(h->live, 0, "%ld of %ld allocations are left", h->live, h->allocations);
    cr_expect_eq(h->complaints, 0, "%s", seen.last);
    vkmoe_vulkan_needs_free(h->needs);
    if (h->vk.device)
        h->vk.DestroyDevice(h->vk.device, NULL);
    if (h->messenger)
        h->vk.DestroyDebugUtilsMessengerEXT(h->vk.instance, h->messenger, NULL);
    h->vk.DestroyInstance(h->vk.instance, NULL);
    vkm_vk_close(&h->vk);
}

static float loss_after(struct vkmoe_context *ctx, struct vkmoe_data *data, unsigned count)
{
    struct vkmoe_trainer *t = trainer(ctx, &(struct vkmoe_trainer_desc){.model = model, .train = train, .data = data});
    const float loss = steps(t, count).loss;
    vkmoe_trainer_destroy(t);
    return loss;
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

Test(adopt, gives_the_bits_of_a_device_of_its_own, .init = scratch_begin, .fini = scratch_end)
{
    struct host h;
    struct vkmoe_context *ctx, *own;
    struct vkmoe_data *data = text();
    host_begin(&h);
    host_open(&h, h.needs->liked, true);
    struct vkmoe_vulkan_desc desc = desc_of(&h, h.needs->liked, true);
    cr_assert_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_OK, "%s", seen.last);
    const float adopted = loss_after(ctx, data, 5);
    cr_expect(h.locks > 0 && h.allocations > 0);
    vkmoe_context_destroy(ctx);
    host_end(&h);
    cr_expect_eq(seen.errors, 0, "%s", seen.last);
    own = open_context();
    cr_expect_eq(loss_after(own, data, 5), adopted);
    close_context(own, 0);
    vkmoe_data_close(data);
}

/* Two contexts on a device that has no more than what is required, used in turn; one goes before the other. */
Test(adopt, shares_a_device, .init = scratch_begin, .fini = scratch_end)
{
    struct host h;
    struct vkmoe_context *first, *second;
    struct vkmoe_data *data = text();
    host_begin(&h);
    host_open(&h, h.needs->required, false);
    struct vkmoe_vulkan_desc desc = desc_of(&h, h.needs->required, false);
    cr_assert_eq(vkmoe_context_adopt(&desc, &first), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkmoe_context_adopt(&desc, &second), VKMOE_OK, "%s", seen.last);
    const float a = loss_after(first, data, 3), b = loss_after(second, data, 3);
    cr_expect_eq(a, b);
    struct vkmoe_trainer *t;
    struct vkmoe_trainer_desc narrow = {.model = model, .train = train, .data = data};
    narrow.train.precision = VKMOE_F16;
    cr_expect_neq(vkmoe_trainer_create(first, &narrow, &t), VKMOE_OK, "16-bit arrays were not enabled");
    vkmoe_context_destroy(first);
    cr_expect_eq(loss_after(second, data, 3), a);
    vkmoe_context_destroy(second);
    vkmoe_data_close(data);
    host_end(&h);
}

struct job {
    struct host *host;
    struct vkmoe_data *data;
    float loss;
};

static void *job_run(void *user)
{
    struct job *j = user;
    struct vkmoe_context *ctx;
    const struct vkmoe_vulkan_desc desc = desc_of(j->host, j->host->needs->liked, true);
    cr_assert_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_OK, "%s", seen.last);
    j->loss = loss_after(ctx, j->data, 5);
    vkmoe_context_destroy(ctx);
    return NULL;
}

/* Two threads, each with a context and a data set of its own, on one queue. */
Test(adopt, serves_two_threads, .init = scratch_begin, .fini = scratch_end)
{
    struct host h;
    pthread_t thread;
    host_begin(&h);
    host_open(&h, h.needs->liked, true);
    struct job jobs[2] = {{.host = &h, .data = text()}, {.host = &h, .data = text()}};
    cr_assert_eq(pthread_create(&thread, NULL, job_run, &jobs[0]), 0);
    job_run(&jobs[1]);
    pthread_join(thread, NULL);
    cr_expect_eq(jobs[0].loss, jobs[1].loss);
    for (int i = 0; i < 2; i++)
        vkmoe_data_close(jobs[i].data);
    host_end(&h);
}

/* Single structures of features are read like those of a Vulkan version. */
Test(adopt, reads_any_chain)
{
    struct host h;
    struct vkmoe_context *ctx;
    host_begin(&h);
    VkPhysicalDeviceMaintenance4Features maintenance = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES,
                                                        .maintenance4 = VK_TRUE};
    VkPhysicalDeviceSynchronization2Features sync = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES,
                                                     .pNext = &maintenance, .synchronization2 = VK_TRUE};
    VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES, .pNext = &sync, .timelineSemaphore = VK_TRUE};
    VkPhysicalDeviceScalarBlockLayoutFeatures scalar = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SCALAR_BLOCK_LAYOUT_FEATURES, .pNext = &timeline, .scalarBlockLayout = VK_TRUE};
    VkPhysicalDeviceBufferDeviceAddressFeatures address = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_BUFFER_DEVICE_ADDRESS_FEATURES, .pNext = &scalar, .bufferDeviceAddress = VK_TRUE};
    VkPhysicalDeviceFeatures2 chain = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &address};
    host_open(&h, &chain, false);
    struct vkmoe_vulkan_desc desc = desc_of(&h, &chain, false);
    cr_expect_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_OK, "%s", seen.last);
    vkmoe_context_destroy(ctx);
    sync.synchronization2 = VK_FALSE;
    cr_expect_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_ERROR_ARGUMENT);
    cr_expect(!ctx && strstr(seen.last, "synchronization2"), "%s", seen.last);
    host_end(&h);
}

Test(adopt, refuses_what_is_missing)
{
    struct host h;
    struct vkmoe_context *ctx;
    struct vkmoe_vulkan_needs *needs;
    host_begin(&h);
    host_open(&h, h.needs->required, false);
    const struct vkmoe_vulkan_desc good = desc_of(&h, h.needs->required, false);
#define REFUSED(change, what)                                                                                            \
    do {                                                                                                                 \
        struct vkmoe_vulkan_desc bad = good;                                                                             \
        const unsigned before = seen.errors;                                                                             \
        change;                                                                                                          \
        cr_expect_eq(vkmoe_context_adopt(&bad, &ctx), VKMOE_ERROR_ARGUMENT, what);                                       \
        cr_expect(!ctx && seen.errors == before + 1 && strstr(seen.last, what), "%s: %s", what, seen.last);              \
    } while (0)
    REFUSED(bad.get_instance_proc_addr = NULL, "get_instance_proc_addr");
    REFUSED(bad.instance = NULL, "instance");
    REFUSED(bad.physical_device = NULL, "physical_device");
    REFUSED(bad.device = NULL, "device");
    REFUSED(bad.queue = NULL, "queue");
    REFUSED(bad.features = NULL, "features");
    REFUSED(bad.queue_family = 31, "queue_family");
    REFUSED(bad.queue_lock = NULL, "queue_lock");
    REFUSED(bad.queue_unlock = NULL, "queue_unlock");
    REFUSED(bad.extension_count = 1, "extensions");
    const VkPhysicalDeviceFeatures2 none = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
    REFUSED(bad.features = &none, "bufferDeviceAddress");
#undef REFUSED
    cr_expect_eq(vkmoe_vulkan_needs_query(test_log, NULL, h.vk.instance, h.physical, &needs), VKMOE_ERROR_ARGUMENT);
    cr_expect(!needs);
    host_end(&h);
}
