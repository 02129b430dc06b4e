#include "host_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/device.h"

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

/* What stands before each piece: its size, as reallocation needs it, and its neighbours in a list. */
struct host_memory {
    size_t size;
    struct host_memory *before, *after;
};
enum { HEAD = 256 };
_Static_assert(sizeof(struct host_memory) <= HEAD, "the head holds it");

static VKAPI_ATTR void *VKAPI_CALL allocate(void *user, size_t size, size_t alignment, VkSystemAllocationScope scope)
{
    struct host *h = user;
    (void)scope;
    cr_assert(alignment <= HEAD);
    char *p = aligned_alloc(HEAD, HEAD + (size + HEAD - 1) / HEAD * HEAD);
    if (!p)
        return NULL;
    struct host_memory *m = (struct host_memory *)(void *)p;
    pthread_mutex_lock(&h->memory);
    *m = (struct host_memory){.size = size, .after = h->first};
    if (h->first)
        h->first->before = m;
    h->first = m;
    h->live++;
    h->allocations++;
    pthread_mutex_unlock(&h->memory);
    return p + HEAD;
}

static VKAPI_ATTR void VKAPI_CALL release(void *user, void *memory)
{
    struct host *h = user;
    if (!memory)
        return;
    struct host_memory *m = (struct host_memory *)(void *)((char *)memory - HEAD);
    pthread_mutex_lock(&h->memory);
    if (m->before)
        m->before->after = m->after;
    else
        h->first = m->after;
    if (m->after)
        m->after->before = m->before;
    h->live--;
    pthread_mutex_unlock(&h->memory);
    free(m);
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

void host_begin(struct host *h)
{
    *h = (struct host){.mutex = PTHREAD_MUTEX_INITIALIZER, .memory = PTHREAD_MUTEX_INITIALIZER,
                       .allocator = {.pUserData = h, .pfnAllocation = allocate, .pfnReallocation = reallocate, .pfnFree = release}};
    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT, .pfnUserCallback = on_message, .pUserData = h};
    uint32_t one = 1;
    const bool layers = validating(), made = vkm_vk_open(&h->vk, &test_log) == VKMOE_OK &&
        vkm_instance_create(&h->vk, &test_log, layers ? &messenger : NULL, &h->debug_utils) == VKMOE_OK;
    if (made && layers)
        cr_assert_eq(h->vk.CreateDebugUtilsMessengerEXT(h->vk.instance, &messenger, NULL, &h->messenger), VK_SUCCESS);
    if (!made || h->vk.EnumeratePhysicalDevices(h->vk.instance, &one, &h->physical) < 0 || !one) {
        cr_assert(!getenv("VKMOE_REQUIRE_DEVICE"), "%s", seen.last);
        cr_skip_test("no Vulkan device");
    }
    seen.errors = 0;
    cr_assert_eq(vkmoe_vulkan_needs_query(test_log, h->vk.GetInstanceProcAddr, h->vk.instance, h->physical, &h->needs),
                 VKMOE_OK, "%s", seen.last);
}

void host_open(struct host *h, const VkPhysicalDeviceFeatures2 *features, bool extensions)
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

struct vkmoe_vulkan_desc host_desc(struct host *h, const VkPhysicalDeviceFeatures2 *features, bool extensions)
{
    return (struct vkmoe_vulkan_desc){
        .log = test_log, .get_instance_proc_addr = h->vk.GetInstanceProcAddr, .instance = h->vk.instance,
        .physical_device = h->physical, .device = h->vk.device, .queue = h->queue, .queue_family = h->needs->queue_family,
        .features = features, .extensions = extensions ? h->needs->extensions : NULL,
        .extension_count = extensions ? h->needs->extension_count : 0, .debug_utils = h->debug_utils,
        .queue_lock = lock, .queue_unlock = unlock, .queue_user = h, .allocator = &h->allocator};
}

void host_forget_rest(struct host *h)
{
    const unsigned before = h->complaints;
    h->vk.DestroyDevice(h->vk.device, NULL);
    h->vk.device = VK_NULL_HANDLE;
    h->complaints = before;
    while (h->first)
        release(h, (char *)h->first + HEAD);
}

void host_end(struct host *h)
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
